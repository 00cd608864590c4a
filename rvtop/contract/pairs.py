"""Live pairs, as screens and plain lines read them: two servers that are sent the same at the same times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.text import digits

#: The phase whose pairs go to the first server twice: what it shows is the instrument's own difference.
SAME = "A against A"

#: What a row says.
LOWER, HIGHER, ALIKE, NOT_YET = "B lower", "B higher", "same", "not yet"
CENSORED = "CENSORED"


#: The figures of pairs by key: what a screen calls them, and their unit.
FIGURES = {"ttft": ("TTFT", "ms"), "tpot": ("TPOT", "ms"), "e2e": ("E2E", "ms")}


@dataclass(frozen=True, slots=True)
class PairOptions:
    """The second server of live pairs, at ``url``, and what is asked of them: ``figure`` is the one that was
    chosen beforehand, ``same`` pairs are A against A, the load ends after ``pairs`` of the others (None: when
    the scenario does) or, with ``until_called``, as soon as the figure's interval leaves out 0."""

    url: str
    figure: str = "ttft"
    pairs: int | None = None
    same: int = 50
    until_called: bool = False


@dataclass(frozen=True, slots=True)
class PairRow:
    """A figure of both sides. ``a`` and ``b`` are means over the pairs, ``difference`` is B − A; ``low`` and
    ``high`` its interval at ``level`` %, None while there is none; ``same_low`` and ``same_high`` the one
    that A against A had. ``called``: after how many pairs 0 was first outside. ``settles``: after about how
    many pairs the interval will be narrow enough to say ``same``, while it is not."""

    key: str
    name: str
    unit: str
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    same_low: float | None = None
    same_high: float | None = None
    word: str = NOT_YET
    called: int | None = None
    level: float = 95.0
    settles: int | None = None


@dataclass(frozen=True, slots=True)
class PairPoint:
    """The interval of the first figure as it was after so many ``pairs``."""

    pairs: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Live pairs as they stand. ``stage``: ``warm`` (nothing counts), ``same`` (A against A), ``both``.

    ``count`` and ``same_count`` are pairs whose both answers came; ``lost`` those of which one failed or both
    did; ``waiting`` pairs that are there but follow one that is not yet: they count in the order in which
    they were sent. ``fair``: whether A against A showed no difference, None before it can be told.
    ``completed_a`` and ``completed_b`` are in %. ``rows``: the figure that was chosen beforehand first.
    """

    a: str
    b: str
    stage: str = "warm"
    count: int = 0
    same_count: int = 0
    lost: int = 0
    waiting: int = 0
    fair: bool | None = None
    completed_a: float | None = None
    completed_b: float | None = None
    rows: tuple[PairRow, ...] = ()
    points: tuple[PairPoint, ...] = ()
    ttft_a: Distribution = EMPTY
    ttft_b: Distribution = EMPTY


def signed(value: float | None) -> str:
    """``−12.4``, ``+3``, ``0``, ``--``: three significant digits."""
    if value is None:
        return digits(None)
    return ("+" if value > 0 else "−" if value < 0 else "") + digits(abs(value))


def difference_words(row: PairRow, pairs: int) -> str:
    """``TTFT: B −12.4 ms [−14.1, −10.8] after 240 pairs``."""
    found = "--" if row.low is None else f"[{signed(row.low)}, {signed(row.high)}]"
    return f"{row.name}: B {signed(row.difference)} {row.unit} {found} after {pairs} pairs"


def call_words(row: PairRow) -> str:
    """That the figure of ``row`` has just been called."""
    return f"{difference_words(row, row.called or 0)}: 0 lies outside"


def same_words(pairs: Pairs) -> str:
    """What A against A showed."""
    row = pairs.rows[0]
    if pairs.fair is None:
        return f"{SAME}: {pairs.same_count} pairs, too few to tell whether the instrument is fair"
    reach = f"{row.name} [{signed(row.same_low)}, {signed(row.same_high)}] {row.unit}"
    if pairs.fair:
        return f"{SAME}: no difference in {pairs.same_count} pairs: {reach}"
    return f"{SAME} differ in {pairs.same_count} pairs: {reach}, which is the instrument's"


def pair_words(pairs: Pairs) -> str:
    """One line with what the pairs show now."""
    row = pairs.rows[0]
    if pairs.stage == "same":
        reach = "--" if row.same_low is None else f"[{signed(row.same_low)}, {signed(row.same_high)}]"
        return f"{SAME}  {row.name}: {reach} {row.unit} after {pairs.same_count} pairs"
    others = "  ".join(f"{one.name} {signed(one.difference)} ({one.word})" for one in pairs.rows[1:])
    more = f"  {pairs.lost} lost" if pairs.lost else ""
    return f"{difference_words(row, pairs.count)} ({row.word})  {others}{more}"


def summary_words(told: Mapping[str, Any] | None) -> list[str]:
    """The lines that a run prints of ``pairs`` of its summary."""
    if not told:
        return []
    rows = [PairRow(key, **row) for key, row in told["rows"].items()]
    known = Pairs(told["a"], told["b"], same_count=told["same_count"], fair=told["fair"], rows=tuple(rows))
    lines = ["", f"pairs: A {told['a']}  B {told['b']}", f"  {same_words(known)}"]
    for row in rows:
        called = f"; first called after {row.called} pairs" if row.called is not None else ""
        lines.append(
            f"  {difference_words(row, told['count'])}, {row.level:.3g} % at any time: {row.word}{called}"
        )
    both = f"{digits(told['completed_a'])} % of A's and {digits(told['completed_b'])} % of B's"
    return [*lines, f"  completed: {both}"]
