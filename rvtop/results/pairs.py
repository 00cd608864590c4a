"""Differences within pairs, from the lines of requests: the same while a run goes on and from its folder.

Pairs count in the order in which they were sent, not in which they ended: those that ended so far are the
short ones, and of a server that stalls now and then those that did not. One that is late holds up the ones
behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from rvtop.contract import run_files
from rvtop.contract.pairs import (
    ALIKE,
    CENSORED,
    FIGURES,
    HIGHER,
    LOWER,
    NOT_YET,
    SAME,
    PairOptions,
    PairPoint,
    PairRow,
    Pairs,
)
from rvtop.results.lines import Unread, json_lines
from rvtop.stats.histogram import Histogram
from rvtop.stats.intervals import Interval
from rvtop.stats.sequences import MeanSequence

#: How likely the figure that was chosen beforehand is ever called different where it is not; the same for all
#: others together, and for all figures of A against A together.
ALPHA = 0.05
#: A difference whose interval lies within so many % of A is called none.
ALIKE_PCT = 5.0
#: Where completion differs by more points, survivors are not compared.
_MOST_LOST = 1.0
#: The interval is kept as it was after so many pairs, and after each doubling.
_FIRST_POINT = 15
#: Points of the interval that are kept.
_MOST_POINTS = 12


@dataclass(slots=True)
class _Figure:
    """A figure of the pairs of one stage."""

    sequence: MeanSequence
    a: float = 0.0  # sums
    b: float = 0.0
    called: int | None = None
    word: str = NOT_YET  # when it was called

    def add(self, a: float, b: float) -> None:
        self.a, self.b = self.a + a, self.b + b
        self.sequence.add(b - a)
        found = self.sequence.interval()
        if self.called is None and found is not None and found.excludes_zero:
            self.called, self.word = self.sequence.n, HIGHER if found.low > 0 else LOWER

    def means(self) -> tuple[float, float] | tuple[None, None]:
        n = self.sequence.n
        return (self.a / n, self.b / n) if n else (None, None)


@dataclass(slots=True)
class _Stage:
    figures: dict[str, _Figure]
    count: int = 0  # pairs whose both answers came
    sent: int = 0
    ok: list[int] = field(default_factory=lambda: [0, 0])

    def completed(self, side: int) -> float | None:
        return 100 * self.ok[side] / self.sent if self.sent else None


class PairFold:
    """Takes the rows of ``requests.jsonl`` as they come (:meth:`add`); ``view`` is what they show by now.

    ``a`` and ``b`` name the sides; ``figure`` is the one that was chosen beforehand; pairs of the phases
    ``warm`` do not count. ``alpha`` as :data:`ALPHA`.
    """

    def __init__(
        self, a: str, b: str, figure: str = "ttft", warm: Collection[str] = (), alpha: float = ALPHA
    ) -> None:
        self._names = a, b
        self._keys = [figure, *(key for key in FIGURES if key != figure)]
        self._warm = warm
        each = alpha / len(self._keys)
        self._same = _Stage({key: _Figure(MeanSequence(each)) for key in self._keys})
        others = alpha / (len(self._keys) - 1)
        alphas = {key: alpha if key == figure else others for key in self._keys}
        self._both = _Stage({key: _Figure(MeanSequence(alphas[key])) for key in self._keys})
        self._half: dict[int, Mapping[str, Any]] = {}  # one of two has ended, by the pair's number
        self._whole: dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}  # both have
        self._next = 0  # the pair whose turn it is
        self._stage = "warm"
        self._points: list[PairPoint] = []
        self._ttft = Histogram(), Histogram()
        self._view: Pairs | None = None

    def add(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Takes a row; returns the lines of the pairs whose turn it is now."""
        pair, side = divmod(row["id"], 2)
        other = self._half.pop(pair, None)
        if other is None:
            self._half[pair] = row
            return []
        self._whole[pair] = (other, row) if side else (row, other)
        self._view = None
        counted = []
        while self._next in self._whole:
            counted.append(self._count(self._next))
            self._next += 1
        return counted

    def finish(self) -> list[dict[str, Any]]:
        """No further row comes: a pair that is missed is waited for no more. Returns as :meth:`add` does."""
        self._view = None
        return [self._count(pair) for pair in sorted(self._whole)]

    def _count(self, number: int) -> dict[str, Any]:
        a, b = self._whole.pop(number)
        phase = a["phase"]
        same, warm = phase.startswith(SAME), phase in self._warm
        self._stage = "warm" if warm else "same" if same else "both"
        figures = [_figures(row) for row in (a, b)]
        if not warm:
            self._add(self._same if same else self._both, figures[0], figures[1])
        first = "b" if (b["sent_ns"] or 0) < (a["sent_ns"] or 0) else "a"
        return {
            "pair": number,
            "phase": phase,
            "stage": self._stage,
            "intended_ns": a["intended_ns"],
            "first": first,
            "a": {**figures[0], "error": a["error"]},
            "b": {**figures[1], "error": b["error"]},
        }

    def _add(self, stage: _Stage, a: dict[str, float], b: dict[str, float]) -> None:
        stage.sent += 1
        stage.ok[0] += bool(a)
        stage.ok[1] += bool(b)
        if not (a and b):
            return
        stage.count += 1
        for key, figure in stage.figures.items():
            if key in a and key in b:
                figure.add(a[key], b[key])
        if stage is self._both:
            for histogram, side in zip(self._ttft, (a, b), strict=True):
                if "ttft" in side:
                    histogram.add(round(side["ttft"] * 1e6))
            self._keep_point()

    def _keep_point(self) -> None:
        """The interval of the first figure as it is now takes the place of the last point, unless that is one
        of those that stay."""
        sequence = self._both.figures[self._keys[0]].sequence
        found, mean = sequence.interval(), sequence.mean
        if found is None or mean is None:
            return
        if self._points and not _stays(self._points[-1].pairs):
            self._points.pop()
        self._points.append(PairPoint(sequence.n, mean, found.low, found.high))
        del self._points[:-_MOST_POINTS]

    # -- what it shows ---------------------------------------------------------------------------

    @property
    def same_count(self) -> int:
        """Pairs of A against A so far."""
        return self._same.count

    @property
    def count(self) -> int:
        """Pairs of A and B so far."""
        return self._both.count

    @property
    def called(self) -> int | None:
        """After how many pairs the figure that was chosen beforehand was called different."""
        return self._both.figures[self._keys[0]].called

    def view(self, stage: str | None = None) -> Pairs:
        """The picture now; the same object while nothing has changed. ``stage``: the one that runs, if not
        that of the last pair."""
        if self._view is None or self._view.stage != (stage or self._stage):
            self._view = self._picture(stage or self._stage)
        return self._view

    def _picture(self, stage: str) -> Pairs:
        both, same = self._both, self._same
        return Pairs(
            *self._names,
            stage=stage,
            count=both.count,
            same_count=same.count,
            lost=both.sent - both.count + same.sent - same.count,
            waiting=len(self._whole),
            fair=self._fair(),
            completed_a=both.completed(0),
            completed_b=both.completed(1),
            rows=tuple(self._row(key) for key in self._keys),
            points=tuple(self._points),
            ttft_a=self._ttft[0].distribution(),
            ttft_b=self._ttft[1].distribution(),
        )

    def _fair(self) -> bool | None:
        if any(figure.called is not None for figure in self._same.figures.values()):
            return False
        known = all(figure.sequence.interval() is not None for figure in self._same.figures.values())
        return True if known else None

    def _row(self, key: str) -> PairRow:
        both, same = self._both.figures[key], self._same.figures[key]
        found, noise = both.sequence.interval(), same.sequence.interval()
        a, b = both.means()
        word = self._word(both, found, noise if same.called is not None else None)
        settles = None
        if word == NOT_YET and a and found is not None:
            settles = both.sequence.until(ALIKE_PCT / 100 * a)
        name, unit = FIGURES[key]
        return PairRow(
            key,
            name,
            unit,
            a=a,
            b=b,
            difference=both.sequence.mean,
            low=None if found is None else found.low,
            high=None if found is None else found.high,
            same_low=None if noise is None else noise.low,
            same_high=None if noise is None else noise.high,
            word=word,
            called=both.called,
            level=100 * (1 - both.sequence.alpha),
            settles=settles,
        )

    def _word(self, figure: _Figure, found: Interval | None, unfair: Interval | None) -> str:
        """What an interval says. ``unfair``: that of A against A, where it left out 0: what is within its
        reach may be the instrument's."""
        lost = [self._both.completed(side) for side in (0, 1)]
        if lost[0] is not None and lost[1] is not None and abs(lost[0] - lost[1]) > _MOST_LOST:
            return CENSORED
        a, _ = figure.means()
        if found is None or a is None:
            return NOT_YET
        low, high = (0.0, 0.0) if unfair is None else (min(0.0, unfair.low), max(0.0, unfair.high))
        if found.low > high:
            return HIGHER
        if found.high < low:
            return LOWER
        near = ALIKE_PCT / 100 * a
        return ALIKE if -near <= found.low and found.high <= near else NOT_YET


def _stays(pairs: int) -> bool:
    """Whether the interval after so many pairs is kept."""
    rest = pairs
    while rest > _FIRST_POINT and rest % 2 == 0:
        rest //= 2
    return rest == _FIRST_POINT


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a request in ms by key; none of one that failed. TPOT needs two tokens."""
    if row["error"] is not None or row["last_token_ns"] is None:
        return {}
    intended, first, last = row["intended_ns"], row["first_token_ns"], row["last_token_ns"]
    if first is None:  # an answer in one piece
        return {"e2e": (last - intended) / 1e6}
    figures = {"ttft": (first - intended) / 1e6, "e2e": (last - intended) / 1e6}
    tokens = row["output_tokens"] or 0
    if tokens > 1:
        figures["tpot"] = (last - first) / (tokens - 1) / 1e6
    return figures


# -- of a run folder -----------------------------------------------------------------------------


def lines_of(pairs: Iterable[Mapping[str, Any]]) -> bytes:
    """Lines of ``pairs.jsonl``."""
    return b"".join(orjson.dumps(pair, option=orjson.OPT_APPEND_NEWLINE) for pair in pairs)


def options_of(flags: Mapping[str, Any] | None) -> PairOptions | None:
    """What ``environment.json`` says of a run of pairs; None: it was none."""
    told = (flags or {}).get("pair")
    if not isinstance(told, dict) or not isinstance(told.get("url"), str):
        return None
    figure = told.get("figure")
    return PairOptions(told["url"], figure if figure in FIGURES else "ttft")


def summed_up(folder: Path, environment: Mapping[str, Any], warm: Collection[str]) -> dict[str, Any]:
    """``{"pairs": …}`` of ``summary.json``, from the run's requests; empty for a run of something else.
    ``warm``: its warm-up phases. Lines that can't be read were noted by whoever read them before."""
    options = options_of(environment["flags"])
    if options is None:
        return {}
    fold = PairFold(str(environment["target"]), options.url, options.figure, warm)
    for row in json_lines(folder / run_files.REQUESTS, Unread(folder / run_files.REQUESTS)):
        try:
            fold.add(row)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    fold.finish()
    return {"pairs": for_summary(fold.view())}


def for_summary(view: Pairs) -> dict[str, Any]:
    """A picture as the summary has it: without what is only drawn."""
    told = {key: value for key, value in asdict(view).items() if key not in ("stage", "ttft_a", "ttft_b")}
    told["rows"] = {row["key"]: {k: v for k, v in row.items() if k != "key"} for row in told["rows"]}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}
