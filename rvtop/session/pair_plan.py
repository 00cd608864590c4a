"""The phases of live pairs: a warm-up of both servers, A against A, then those of the scenario."""

from __future__ import annotations

from itertools import takewhile

from rvtop.contract.pairs import SAME, PairOptions
from rvtop.errors import UserError
from rvtop.scenario.phase import Phase
from rvtop.scenario.schema import Scenario

_WARM_UP = "warm-up"
#: Seconds of it: caches, connections and clocks of both servers.
_WARM_UP_S = 3.0
#: A against A may take so much longer than its pairs need by their rate, before it ends without them.
_SLACK, _SLACK_S = 1.5, 5.0


def with_pairs(scenario: Scenario, options: PairOptions) -> Scenario:
    """The scenario with the phases that pairs need before its own.

    A gets two requests for each pair of A against A, so their rate is half that of the phase behind: A is as
    busy as it will be. Raises UserError for a scenario that can't be sent to two servers alike.
    """
    for phase in scenario.phases:
        _check(phase)
    if (scenario.workload.turns_mean or 1) > 1:
        raise UserError(
            f"rvtop ab: the workload of {scenario.name} has conversations, and what is said in them would "
            "differ between the two: give one with single requests"
        )
    warm = list(takewhile(lambda phase: phase.warmup, scenario.phases))
    rest = list(scenario.phases[len(warm) :])
    first = rest[0]  # no scenario is all warm-up
    rps = first.peak_rps
    if not warm:
        warm = [_steady(first, _WARM_UP, rps, _WARM_UP_S).model_copy(update={"warmup": True})]
    same = [_steady(first, SAME, rps / 2, options.same / (rps / 2) * _SLACK + _SLACK_S)]
    phases = (*warm, *(same if options.same else ()), *rest)
    names = [phase.name for phase in phases]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"rvtop ab adds a phase {twice}, and {scenario.name} has one already: rename it")
    return scenario.model_copy(update={"phases": phases})


def _steady(like: Phase, name: str, rps: float, duration_s: float) -> Phase:
    """A phase at one rate whose arrivals are of the kind of another's."""
    made = Phase.model_validate(
        {"name": name, "rate": rps, "duration": duration_s, "arrivals": like.arrivals}
        | ({} if like.burstiness is None else {"burstiness": like.burstiness})
    )
    return made.model_copy(update={"drain_s": like.drain_s})


def _check(phase: Phase) -> None:
    """Raises UserError for a phase in which what is sent follows from what one server does."""
    if phase.rate is None or not phase.peak_rps:
        raise UserError(
            f"rvtop ab: phase {phase.name} has no rate, and pairs are sent by the clock alone: give phases "
            "with rate and duration"
        )
    for key, value in (("max_in_flight", phase.max_in_flight), ("cancel", phase.cancel)):
        if value is not None:
            raise UserError(f"rvtop ab: phase {phase.name} has {key}, which would part the two of a pair")
    for key, wanted in (("reset_prefix_cache", phase.reset_prefix_cache), ("profile", phase.profile)):
        if wanted:
            raise UserError(f"rvtop ab: phase {phase.name} has {key}, which only one of the two would do")
