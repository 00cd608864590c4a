"""The search for the highest rate that holds an SLO (``rvtop run --find-max --slo …``). Pure: it names the
next step, and gets what the step measured.

The rate doubles while the SLO holds; after the first miss the gap between the highest rate that held and
the lowest that missed is halved (geometrically) until it is small. Then the best rate must hold once more,
for longer: a short step can be lucky. If it doesn't, the search goes on below it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rvtop.errors import UserError
from rvtop.load.plan.schedule import PhasePlan
from rvtop.scenario.thresholds import DISTRIBUTIONS, STATS

#: Lengths of SLO names, ``ttft_p99`` for the threshold ``ttft_p99_ms``; the distributions that a step has.
DISTS = tuple(
    name.removesuffix("_ms") for name in DISTRIBUTIONS if name in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
)
_STATS = tuple(stat for stat in STATS if stat not in ("min", "max"))
#: Without a word on errors, this share may fail: a mean over survivors flatters whoever drops most.
ERROR_RATE = 0.01

_LEAST_RPS = 0.05
_LEAST_REQUESTS = 100  # a p99 of fewer is the worst of them
_HOPELESS_REQUESTS = 30


def parse_slo(text: str) -> dict[str, float]:
    """``ttft_p99=200,tpot_mean=50`` (milliseconds) as limits by figure, ``error_rate`` (0..1) among them.

    Raises UserError.
    """
    known = f"known: {', '.join(DISTS)} with _{', _'.join(_STATS)} in ms, and error_rate"
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        name = name.removesuffix("_ms")
        dist, _, stat = name.rpartition("_")
        if name != "error_rate" and not (dist in DISTS and stat in _STATS):
            raise UserError(f"--slo {part.strip() or text!r}: unknown figure; {known}")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not 0 <= limit < math.inf or (limit == 0 and name != "error_rate"):
            raise UserError(f"--slo {part.strip()}: needs a limit > 0, such as {name}=200")
        if name in limits:
            raise UserError(f"--slo: names {name} twice")
        limits[name] = limit
    return {"error_rate": ERROR_RATE, **limits}


@dataclass(frozen=True)
class SearchOptions:
    """What to search for and how. ``slo``: limits by figure (:func:`parse_slo`); rates in requests per
    second; ``tolerance``: how close the result must be to the lowest rate that missed."""

    slo: Mapping[str, float]
    start_rps: float = 1.0
    max_rps: float = math.inf
    step_s: float = 10.0
    hold_s: float = 30.0
    tolerance: float = 0.05


@dataclass(frozen=True)
class SearchStep:
    """One rate that was tried. ``figures`` has a value for each limit of the SLO, None where nothing was
    measured; ``limited_by`` is why the client bent those of a step that missed, None if it did not: then the
    server was the limit."""

    rps: float
    held: bool
    figures: Mapping[str, float | None]
    confirms: bool = False
    limited_by: str | None = None

    def describe(self, slo: Mapping[str, float]) -> str:
        """One line: the rate, how it went, each figure against its limit."""
        parts = []
        for name, limit in slo.items():
            value, unit = self.figures.get(name), "" if name == "error_rate" else " ms"
            shown = "--" if value is None else f"{value:.3g}"
            inside = value is not None and value <= limit
            parts.append(f"{name} {shown} {'≤' if inside else '>'} {limit:g}{unit}")
        what = "holds" if self.held else "misses"
        line = f"{self.rps:.4g} rps {what}{' (confirmation)' if self.confirms else ''}: {', '.join(parts)}"
        return line if self.limited_by is None else f"{line}; client-limited: {self.limited_by}"


@dataclass
class Search:
    """Ask ``next`` for a phase, tell ``judge`` what it measured, until ``next`` is None; then ``best`` is
    the highest rate that held and was confirmed, None if none did."""

    options: SearchOptions
    curve: list[SearchStep] = field(default_factory=list)
    best: float | None = None
    _held: list[float] = field(default_factory=list)  # rates that held, ascending
    _missed: float = math.inf  # the lowest rate that missed
    _asked: tuple[float, bool] = (0.0, False)  # what runs: (rate, whether it confirms)
    _count: int = 0

    def next(self) -> PhasePlan | None:
        """The next step as a phase, None when the search is over."""
        if self.best is not None:
            return None
        rate, confirms = self._rate()
        if rate < _LEAST_RPS:
            return None
        self._asked = (rate, confirms)
        self._count += 1
        # A long step where requests are few, so that a percentile means something.
        seconds = self.options.hold_s if confirms else self.options.step_s
        seconds = min(max(seconds, _LEAST_REQUESTS / rate), 6 * seconds)
        kind = "confirm" if confirms else "find"
        return PhasePlan(
            f"{kind}-{self._count}",
            rate,
            rate,
            seconds,
            arrivals="poisson",
            drain_s=max(10.0, seconds / 2),
        )

    def _rate(self) -> tuple[float, bool]:
        held = self._held[-1] if self._held else 0.0
        if math.isinf(self._missed):
            if held >= self.options.max_rps:
                return held, True
            return min(2 * held if held else self.options.start_rps, self.options.max_rps), False
        if not held:
            return self._missed / 2, False
        if self._missed / held <= 1 + self.options.tolerance:
            return held, True
        return math.sqrt(held * self._missed), False

    @property
    def capped(self) -> bool:
        """Whether the result is the most that was allowed, so that the server may hold more."""
        return self.best is not None and self.best >= self.options.max_rps

    def judge(self, figures: Mapping[str, float | None], limited_by: str | None = None) -> SearchStep:
        """Takes the figures of the step that ran; a missing one is a miss. ``limited_by``: why the client
        bends them, if it does."""
        rate, confirms = self._asked
        held = all(_within(figures.get(name), limit) for name, limit in self.options.slo.items())
        shown = {name: figures.get(name) for name in self.options.slo}
        step = SearchStep(rate, held, shown, confirms, None if held else limited_by)
        self.curve.append(step)
        if held and confirms:
            self.best = rate
        elif held:
            self._held = sorted({*self._held, rate})
        else:
            self._missed = min(self._missed, rate)
            # What held above a rate that misses was luck.
            self._held = [one for one in self._held if one < self._missed]
        return step

    def hopeless(self, figures: Mapping[str, float | None], requests: int) -> bool:
        """Whether a step that still runs can be ended: far beyond a limit, by enough requests."""
        far = [name for name, limit in self.options.slo.items() if not _within(figures.get(name), 3 * limit)]
        return requests >= _HOPELESS_REQUESTS and any(figures.get(name) is not None for name in far)


def _within(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit
