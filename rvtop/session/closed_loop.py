"""A closed loop by command: so many requests in flight in place of a rate, and back to a rate.

Either begins the phase that runs anew, so that no figure mixes both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns

from rvtop.contract.command import Command, CommandError, SetConcurrency, SetRate
from rvtop.load.plan.schedule import PhasePlan
from rvtop.scenario.units import MAX_AT_ONCE
from rvtop.session.load_run import LoadRun
from rvtop.session.rate_control import Done, Say


class ClosedLoops:
    """``load`` returns the load that runs; ``say`` tells the user."""

    def __init__(self, load: Callable[[], LoadRun], say: Say) -> None:
        self._load, self._say = load, say

    def set_concurrency(self, command: SetConcurrency, by: str) -> Done:
        """Begins the phase anew as a closed loop. Raises CommandError."""
        load, wanted = self._load(), command.requests
        phase = _to_begin_anew(load, "closed")
        if not 1 <= wanted <= MAX_AT_ONCE:
            raise CommandError(f"closed: must be from 1 to {MAX_AT_ONCE} requests at once, got {wanted}")
        if phase.burst:
            raise CommandError("closed: a round sends its requests at once; a phase with a rate can be one")
        if phase.trace:
            raise CommandError("closed: this phase replays a trace, whose requests have their times")
        if wanted == phase.concurrency:
            raise CommandError(f"closed: {wanted} at once already")
        most = load.spec.most_in_flight if load.spec is not None else None
        if most is not None and wanted > most:
            raise CommandError(f"closed: the load workers here hold {most:,} in flight at most")
        if phase.max_in_flight is not None and wanted > phase.max_in_flight:
            raise CommandError(f"closed: the phase has max_in_flight {phase.max_in_flight}")
        made = replace(_plain(phase), concurrency=wanted)
        inverse = _inverse(load, phase)
        return self._begin(load, made, f"{wanted} requests at once, a closed loop", inverse, by)

    def set_rate(self, command: SetRate, by: str) -> Done:
        """Changes the rate; of a closed loop the phase begins anew, with arrivals at that rate. Raises
        CommandError, also where the loop has so many requests to send and no time: a rate would not end."""
        load = self._load()
        phase = load.player.phase
        if phase is None or not phase.concurrency or load.player.state != "sending":
            return load.command(command, by)
        _to_begin_anew(load, "rate")
        if phase.limit is not None:
            held = (
                f"a closed loop has no rate, and this phase is {phase.limit} requests long, whatever the time"
            )
            raise CommandError(f"rate: {held}")
        if command.over_s is not None or command.for_s is not None:
            raise CommandError("rate: a closed loop has no rate to begin from; set a rate first")
        rps = load.rate_control.allowed(command.rps)
        made = replace(_plain(phase), concurrency=0, rate_from=rps, rate_to=rps)
        return self._begin(load, made, f"rate {rps:.3g} rps", _inverse(load, phase), by)

    def _begin(self, load: LoadRun, made: PhasePlan, text: str, inverse: Command, by: str) -> Done:
        at_ns = load.begin_anew(made, by)
        self._say(text, kind="rate")
        return Done(f"{text}; the phase begins anew", at_ns, inverse)


def _to_begin_anew(load: LoadRun, command: str) -> PhasePlan:
    """The phase that sends, if ``command`` may begin it anew. Raises CommandError."""
    load.check_now()
    if load.held:
        raise CommandError(load.held)
    if load.searcher is not None:
        raise CommandError(f"{command}: --find-max chooses its steps itself")
    assert load.player.phase is not None
    return load.player.phase


def _plain(phase: PhasePlan) -> PhasePlan:
    """The phase without the rate that it had: as long as it was, from its beginning."""
    return replace(
        phase,
        rate_from=0.0,
        rate_to=0.0,
        duration_s=phase.lasts_s,
        changes=(),
        offset_s=0.0,
    )


def _inverse(load: LoadRun, phase: PhasePlan) -> Command:
    """What goes back to how ``phase`` sends now: a rate as a constant one."""
    if phase.concurrency:
        return SetConcurrency(phase.concurrency)
    return SetRate(load.rate_control.asked_rps(perf_counter_ns()))
