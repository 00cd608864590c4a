"""The phases of live pairs: a warm-up of both servers, A against A, then those of the scenario."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from rvtop.contract.handle import Second
from rvtop.contract.pairs import SAME, PairOptions
from rvtop.errors import UserError
from rvtop.scenario.phase import Phase
from rvtop.scenario.schema import Scenario
from rvtop.session.request import SessionRequest, default_out, watch_scenario

_WARM_UP = "warm-up"
#: Seconds of it: caches, connections and clocks of both servers.
_WARM_UP_S = 3.0
#: A against A may take so much longer than its pairs need by their rate, before it ends without them.
_SLACK, _SLACK_S = 1.5, 5.0
#: Where nobody says another: requests a second to each server, and the pairs after which the load ends.
RATE, PAIRS = 5.0, 300
#: A steady load may take so much longer than its pairs need by their rate, before it ends without them.
_LONGER, _LONGER_S = 1.5, 30.0


def lasts_s(pairs: int, rps: float) -> float:
    """How long a steady load may take for so many pairs."""
    return pairs / rps * _LONGER + _LONGER_S


def pairs_now(request: SessionRequest, url: str, second: Second, models: tuple[str, ...]) -> SessionRequest:
    """Live pairs of the server at ``url`` and a second one, with the workload of a session that was asked for
    by ``request`` and that goes to ``url`` now. Raises UserError where that workload can't be sent to two
    servers alike."""
    scenario = request.scenario or watch_scenario()
    rps = second.rps or (scenario.phases[-1].peak_rps if request.pair is not None else None) or RATE
    steady = {"name": "pairs", "rate": rps, "duration": lasts_s(PAIRS, rps), "arrivals": "poisson"}
    alone = {"phases": (Phase.model_validate(steady),), "thresholds": {}, "stop_when_saturated": False}
    options = PairOptions(second.url, pairs=PAIRS)
    there = request.url == url  # else the load went over to another server meanwhile, or we started it
    transport = request.transport
    return SessionRequest(
        with_pairs(scenario.model_copy(update=alone), options),
        default_out("ab"),
        url=url,
        models=models,
        timeouts=request.timeouts,
        metrics_urls=request.metrics_urls if there else (),
        max_rate=request.max_rate,
        transport=transport if there else replace(transport, unix_socket=None),
        body=request.body,
        pair=options,
        kv_events=request.kv_events if there else (),
        slo=request.slo,
        prices=request.prices,
    )


def with_pairs(scenario: Scenario, options: PairOptions) -> Scenario:
    """The scenario with the phases that pairs need before its own.

    A gets two requests for each pair of A against A, so their rate is half that of the phase behind: A is as
    busy as it will be. Raises UserError for a scenario that can't be sent to two servers alike.
    """
    for phase in scenario.phases:
        _check(phase)
    if scenario.workload.kind == "tasks" or (scenario.workload.turns_mean or 1) > 1:
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
