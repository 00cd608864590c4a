"""The plan over time for the live screen: phases that were played where they began, and those to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rvtop.contract.snapshot import Plan, PlannedPhase
from rvtop.load.plan.schedule import PhasePlan
from rvtop.scenario.planned import Span, highest, spans
from rvtop.session.played import Played
from rvtop.session.player import Player

#: Columns that the rates are told for: a screen with fewer shows the highest of several.
_COLUMNS = 240
_PHASES = 200  # more of them are told by nobody


class Timeline:
    """Made anew only where a phase has begun or the plan has changed."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self._key: tuple[int, int] = (-1, -1)
        self._plan: Plan | None = None

    def plan(self, player: Player, t0_ns: int) -> Plan | None:
        """The plan of ``player`` where charts count from ``t0_ns``; None where none has a known length."""
        begun = self._played.begun
        key = (len(begun), len(player.phases))
        if key != self._key:
            self._key, self._plan = key, _plan(begun, player.coming, t0_ns)
        return self._plan


def _plan(begun: Sequence[tuple[PhasePlan, int]], coming: Sequence[PhasePlan], t0_ns: int) -> Plan | None:
    if not begun:
        return None
    origin_ns = begun[0][1]
    played = [replace(phase, begins_s=(at_ns - origin_ns) / 1e9) for phase, at_ns in begun]
    planned = spans([*_until_next(played), *coming])[:_PHASES]
    total_s = max(span.ends_s for span in planned)
    if not total_s:
        return None
    told = [_phase(span) for span in planned if span.lasts_s or _is_endless(span.phase)]
    rates = tuple(highest(planned, _COLUMNS))
    return Plan(total_s, (origin_ns - t0_ns) / 1e9, tuple(told), rates)


def _until_next(played: list[PhasePlan]) -> list[PhasePlan]:
    """The phases that were played, those that ended early cut where the next one began."""
    out = []
    for phase, following in zip(played, [*played[1:], None], strict=True):
        if following is not None and phase.lasts_s is not None:
            most_s = (following.begins_s or 0.0) - (phase.begins_s or 0.0)
            shape_s = phase.duration_s if phase.shape_s is None else phase.shape_s
            lasts_s = min(phase.lasts_s, most_s)
            phase = replace(phase, duration_s=lasts_s + phase.offset_s, shape_s=shape_s)
        out.append(phase)
    return out


def _is_endless(phase: PhasePlan) -> bool:
    return phase.duration_s is None and not phase.burst


def _phase(span: Span) -> PlannedPhase:
    phase = span.phase
    if phase.concurrency:
        return PlannedPhase(phase.name, span.begins_s, span.lasts_s)
    rates = [rate for rate in highest([replace(span, begins_s=0.0)], 64) if rate is not None]
    first = phase.line().rate(phase.offset_s)
    return PlannedPhase(phase.name, span.begins_s, span.lasts_s, first, max(rates, default=first))
