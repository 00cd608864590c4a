"""Two runs side by side: their figures, how they differ, and whether they did the same work. All pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.stats.intervals import BLOCKS, LEVEL, Interval, paired, welch

#: Points of completion between which latencies are still those of the same requests.
SAME_COMPLETION = 1.0
CENSORED = "CENSORED"
SIGNIFICANT, NOT_SIGNIFICANT, TOO_FEW = "significant", "not significant", "too few data"
NO_INTERVAL = "no interval"
#: Percentiles of bucketed gaps are known to so much of themselves (``rvtop.stats.histogram``).
_BUCKET = 0.01
COMPLETED = "completed_pct"
ALL = "all that was measured"
#: The entry of ``work`` that says of what time the figures are.
SPAN = "figures of"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is compared. ``survivors``: it is of answered requests alone, so that it is no comparison
    where completion differs. ``points``: it is a percentage, whose difference is told in points.
    ``optional``: there is no row where neither side has it."""

    key: str
    name: str
    unit: str
    survivors: bool = True
    points: bool = False
    optional: bool = False


FIGURES: tuple[Figure, ...] = (
    *(
        Figure(f"{key}_{value}", f"{name} {value}", "ms")
        for key, name in (("ttft", "TTFT"), ("itl", "ITL"), ("e2e", "E2E"))
        for value in ("mean", "p50", "p90", "p99")
    ),
    Figure("tps", "tokens/s", "tok/s"),
    Figure("goodput_rps", "goodput", "rps", survivors=False),
    Figure("joules_per_token", "J/token", "", survivors=False, optional=True),
    Figure("usd_per_mtok_in", "$/Mtok in", "", survivors=False, optional=True),
    Figure("usd_per_mtok_out", "$/Mtok out", "", survivors=False, optional=True),
    Figure("errors", "errors", "", survivors=False),
    Figure(COMPLETED, "completed", "%", survivors=False, points=True),
)
BY_KEY: Mapping[str, Figure] = {figure.key: figure for figure in FIGURES}

Figures = Mapping[str, float | None]
#: By figure its values in the blocks of a run, in their order (``rvtop.results.blocks``).
Blocks = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. ``where`` is its run folder, or what it is. ``parts`` are figures by phase, under ALL
    those of all phases. ``work`` must be the same on both sides, ``setting`` may differ and is told.
    ``faults`` say why it is no clean baseline, ``doubts`` what bends its figures. ``chunks``: its gaps are
    between chunks, which are no tokens. ``blocks`` are by part, as intervals need them; empty where the side
    has none.
    """

    label: str
    where: str
    parts: Mapping[str, Figures]
    ttft: Distribution = EMPTY
    work: Mapping[str, str] = field(default_factory=dict)
    setting: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    chunks: bool = False
    slo: str = ""
    blocks: Mapping[str, Blocks] = field(default_factory=dict)

    @property
    def figures(self) -> Figures:
        """Those of all that was measured."""
        return self.parts.get(ALL, {})


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of both. ``difference`` is B less A, ``interval`` of it, ``percent`` that of A; ``word`` says
    which is lower: where there is a ``verdict`` only of what is significant."""

    figure: Figure
    a: float | None
    b: float | None
    difference: float | None
    percent: float | None
    word: str
    interval: Interval | None = None
    verdict: str = ""  # SIGNIFICANT, NOT_SIGNIFICANT, TOO_FEW; "" where no interval can be


@dataclass(frozen=True, slots=True)
class Comparison:
    """``refused`` says what differs of the work, empty where it is the same; ``notes`` what else is to be
    known. ``level`` of the intervals is in %; ``paired``: block was held against block."""

    a: Side
    b: Side
    parts: Mapping[str, tuple[Row, ...]]
    refused: tuple[str, ...]
    notes: tuple[str, ...]
    level: float = LEVEL
    paired: bool = True

    @property
    def refusal(self) -> str:
        """One line, or empty."""
        return f"work differs: {'; '.join(self.refused)}" if self.refused else ""

    @property
    def has_intervals(self) -> bool:
        """Whether any figure has one."""
        return any(row.interval is not None for rows in self.parts.values() for row in rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, all of it first."""
        return tuple(self.parts)


def short_names(a: Side, b: Side) -> tuple[str, str]:
    """What they are called beside each other: what they ran on; where that is the same, their folders."""
    if a.label != b.label:
        return a.label, b.label
    return _last(a.where), _last(b.where)


def _last(where: str) -> str:
    return where.rstrip("/").rpartition("/")[2] or where


def compare(a: Side, b: Side, level: float = LEVEL) -> Comparison:
    """``b`` against the reference ``a``: all of it, and each phase that both have. ``level`` of the intervals
    in %."""
    names = [name for name in a.parts if name in b.parts]
    parts = {name: rows(a.parts[name], b.parts[name]) for name in names}
    refused = tuple(_differing(a, b))
    if a.blocks and b.blocks:
        parts = {
            name: tuple(
                _judged(row, a.blocks.get(name, {}), b.blocks.get(name, {}), level, pairs=not refused)
                for row in of
            )
            for name, of in parts.items()
        }
    chunks = a.chunks != b.chunks
    if chunks:
        parts = {name: tuple(map(_other_gaps, of)) for name, of in parts.items()}
    if a.slo != b.slo:
        parts = {name: tuple(map(_other_slo, of)) for name, of in parts.items()}
    return Comparison(a, b, parts, refused, tuple(_notes(a, b, parts)), level, not refused)


def rows(a: Figures, b: Figures) -> tuple[Row, ...]:
    """Every figure of the two."""
    censored = is_censored(a, b)
    shown = [f for f in FIGURES if not f.optional or a.get(f.key) is not None or b.get(f.key) is not None]
    return tuple(_row(figure, a.get(figure.key), b.get(figure.key), censored) for figure in shown)


def is_censored(a: Figures, b: Figures) -> bool:
    """Whether completion differs by more than a point: who drops most would look best."""
    ours, theirs = a.get(COMPLETED), b.get(COMPLETED)
    return ours is None or theirs is None or abs(ours - theirs) > SAME_COMPLETION


def _row(figure: Figure, a: float | None, b: float | None, censored: bool) -> Row:
    if a is None and b is None:
        return Row(figure, a, b, None, None, "")
    if figure.survivors and censored:
        return Row(figure, a, b, None, None, CENSORED)
    if a is None or b is None:
        return Row(figure, a, b, None, None, "")
    difference = b - a
    percent = 100 * difference / a if a and not figure.points else None
    word = "same" if f"{a:.3g}" == f"{b:.3g}" else "B lower" if b < a else "B higher"
    return Row(figure, a, b, difference, percent, word)


def interval_of(
    key: str, a: Blocks, b: Blocks, level: float = LEVEL, *, pairs: bool = True
) -> Interval | None:
    """Of the difference of a figure; None where a block of one side has no value, being of too few
    requests. ``pairs``: the same was sent at the same times in both."""
    ours, theirs = (_whole(of.get(key, ())) for of in (a, b))
    if not ours or len(ours) != len(theirs):
        return None
    return paired(ours, theirs, level) if pairs else welch(ours, theirs, level)


def _whole(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) >= BLOCKS else []


def _judged(row: Row, a: Blocks, b: Blocks, level: float, *, pairs: bool) -> Row:
    """With its interval, and whether the difference is significant."""
    if row.difference is None or row.a is None or row.b is None:
        return row
    found = interval_of(row.figure.key, a, b, level, pairs=pairs)
    if found is None:
        return replace(row, word=TOO_FEW, verdict=TOO_FEW)
    bucketed = row.figure.key.startswith("itl_p")
    found = found.reaching(row.difference, _BUCKET * (abs(row.a) + abs(row.b)) if bucketed else 0.0)
    if not found.excludes_zero:
        return replace(row, word="same", interval=found, verdict=NOT_SIGNIFICANT)
    word = "B lower" if found.high < 0 else "B higher"
    return replace(row, word=word, interval=found, verdict=SIGNIFICANT)


def _without(row: Row) -> Row:
    return Row(row.figure, row.a, row.b, None, None, "")


def _other_gaps(row: Row) -> Row:
    return _without(row) if row.figure.key.startswith("itl_") else row


def _other_slo(row: Row) -> Row:
    return _without(row) if row.figure.key == "goodput_rps" else row


def _differing(a: Side, b: Side) -> Iterator[str]:
    spans = a.work.get(SPAN, ""), b.work.get(SPAN, "")
    if spans[0] != spans[1]:  # nothing else can be the same
        yield f"{SPAN} {_pair(*spans)}"
        return
    for key in dict.fromkeys((*a.work, *b.work)):
        ours, theirs = a.work.get(key, ""), b.work.get(key, "")
        if ours != theirs:
            yield f"{key} {_pair(ours, theirs)}"
    for name, side in (("A", a), ("B", b)):
        yield from (f"{name} {fault}" for fault in side.faults)


def _pair(a: str, b: str) -> str:
    return f"{a or 'none'} → {b or 'none'}"


def _notes(a: Side, b: Side, parts: Mapping[str, tuple[Row, ...]]) -> Iterator[str]:
    if any(row.word == CENSORED for row in parts.get(ALL, ())):
        if a.figures.get(COMPLETED) is None or b.figures.get(COMPLETED) is None:
            why = "completion is not known of both"
        else:
            why = "completion differs by over a point"
        yield f"{CENSORED}: {why}. Latencies of survivors are not compared: who drops most would look best"
    for name, side in (("A", a), ("B", b)):
        yield from (f"{name} is {doubt}" for doubt in side.doubts)
    if a.chunks != b.chunks:
        yield "ITL is not compared: chunks of one of the two are not tokens"
    if a.slo != b.slo:
        yield f"goodput is not compared: SLO {_pair(a.slo, b.slo)}"
    for key in dict.fromkeys((*a.setting, *b.setting)):
        ours, theirs = a.setting.get(key, ""), b.setting.get(key, "")
        if ours != theirs:
            yield f"differs: {key} {_pair(ours, theirs)}"
