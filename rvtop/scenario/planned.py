"""The planned rate of a scenario over time, for ``explain`` and for the timeline of the live screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.load.plan.phase_plan import PhasePlan

_BARS = " ▁▂▃▄▅▆▇█"
_ROWS = 3
#: Looks at the rate in each column: a spike that is shorter than a column must not fall between two.
_LOOKS = 8


@dataclass(frozen=True)
class Span:
    """A phase whose length is known, and when it begins, seconds from the first one's beginning."""

    phase: PhasePlan
    begins_s: float
    lasts_s: float

    @property
    def ends_s(self) -> float:
        return self.begins_s + self.lasts_s


def spans(phases: Sequence[PhasePlan]) -> tuple[Span, ...]:
    """The phases one behind the other, without drains; bursts and what only the run can end take no time."""
    out: list[Span] = []
    at_s = 0.0
    for phase in phases:
        at_s = max(at_s, phase.begins_s or 0.0)
        out.append(Span(phase, at_s, 0.0 if phase.burst else phase.lasts_s or 0.0))
        at_s = out[-1].ends_s
    return tuple(out)


def highest(planned: Sequence[Span], columns: int) -> list[float | None]:
    """The highest planned rate in each of ``columns`` equal parts of the time of ``planned``; None between
    phases, and where no rate is planned (a closed loop)."""
    total_s = max((span.ends_s for span in planned), default=0.0)
    if not total_s:
        return [None] * columns
    step = total_s / columns
    out: list[float | None] = [None] * columns
    for span in planned:
        if not span.lasts_s or span.phase.concurrency:
            continue
        line = span.phase.line()
        first, last = int(span.begins_s / step), min(columns - 1, int(span.ends_s / step))
        for column in range(first, last + 1):
            begin, end = max(column * step, span.begins_s), min((column + 1) * step, span.ends_s)
            if end <= begin:
                continue
            clock = begin - span.begins_s + span.phase.offset_s
            # Just before its end: there the next phase's rate, or the end of a ramp, is not this column's.
            rates = [line.rate(clock + (end - begin) * look / _LOOKS) for look in range(_LOOKS)]
            out[column] = max(*rates, out[column] or 0.0)
    return out


def chart(phases: Sequence[PhasePlan], columns: int) -> list[str]:
    """The planned rate as a few rows of ``columns`` cells, the phases' names below; none without a rate."""
    planned = spans(phases)
    rates = highest(planned, columns)
    most = max((rate for rate in rates if rate is not None), default=0.0)
    if not most:
        return []
    levels = len(_BARS) - 1
    heights = [0 if not rate else max(1, round(rate / most * _ROWS * levels)) for rate in rates]
    rows = [
        "".join(_BARS[min(levels, max(0, height - row * levels))] for height in heights)
        for row in reversed(range(_ROWS))
    ]
    return [f"{rows[0]}  {most:.3g} rps", *rows[1:], _names(planned, columns)]


def _names(planned: Sequence[Span], columns: int) -> str:
    """The phases' names, each where its phase begins, as far as there is room."""
    total_s = planned[-1].ends_s
    line = ""
    for span in planned:
        at = max(len(line), int(span.begins_s / total_s * columns))
        room = int(span.ends_s / total_s * columns) - at
        if span.lasts_s and (room > 0 or not line):
            line = line.ljust(at) + ("│" + span.phase.name)[: max(1, room)]
    return line
