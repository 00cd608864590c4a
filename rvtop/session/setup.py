"""Parts of a session that hold no state of it: what workers are told, what is noted of the surroundings, and
the watch over whether the target is still there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from time import perf_counter_ns
from typing import Any

from rvtop.doctor.machine import free_memory
from rvtop.errors import UserError
from rvtop.load.fleet.workers import Workers
from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import PhasePlan, PlanEvent, mean_rate
from rvtop.load.wire.endpoint import address_of
from rvtop.load.worker.capacity import capacity
from rvtop.load.worker.messages import Delta, WorkerSpec
from rvtop.results.environment import environment
from rvtop.scenario.schema import Scenario
from rvtop.session.live import LiveState
from rvtop.session.player import plan
from rvtop.session.request import SessionRequest
from rvtop.target.probe import KEY_ENV, TargetError, TargetInfo
from rvtop.telemetry.discover import sources_for
from rvtop.telemetry.sample import Source
from rvtop.text import printable_names
from rvtop.workload.prepare import Prepared

#: A target that has answered nothing for this long, and refuses a connection too, is lost.
_SILENT_S = 5.0
#: uvloop's timers are whole milliseconds, and may go off more than one of them early.
_LOOP_STEP_S = 0.002
_CONNECT_ERRORS = ("dns", "refused", "reset", "timeout_connect")


class Interrupted(TargetError):
    """The user stopped the session before there was a load."""

    def __init__(self) -> None:
        super().__init__("interrupted before the load began", 130)


def check_max_rate(scenario: Scenario, limit: float | None) -> None:
    """Raises UserError where a phase asks for more than ``limit`` requests a second."""
    if limit is None:
        return
    for phase in scenario.phases:
        peak = max(phase.rate.start, phase.rate.end) if phase.rate is not None else 0.0
        if peak > limit:
            raise UserError(f"--max-rate {limit:g}: phase {phase.name} asks for {peak:g} requests a second")


def check_max_in_flight(scenario: Scenario, workers: Workers) -> None:
    """Raises UserError where a phase's ``max_in_flight`` is too small to be shared by the load workers: one
    with a share of 0 would drop all that is its own."""
    for phase in scenario.phases:
        most = phase.max_in_flight
        if most is not None and workers.count > most:
            raise UserError(
                f"--workers {workers}: phase {phase.name} has max_in_flight {most}, which is shared between "
                f"the workers; use at most {most}"
            )


def check_capacity(scenario: Scenario, request: SessionRequest) -> int | None:
    """How many requests in flight this machine can hold; None for load workers on other machines.

    Raises UserError where a phase has more at once, or a rate that would need as many within a second: that
    is what an answer takes at least under such a load.
    """
    free, _ = free_memory()
    found = capacity(request.workers, free, unix_socket=request.transport.unix_socket is not None)
    if found is None or request.search is not None:  # a search ends where the client is the limit
        return None if found is None else found.most
    for phase in scenario.phases:
        peak = max(phase.rate.start, phase.rate.end) if phase.rate is not None else 0.0
        at_once = max(phase.rounds.sizes) if phase.rounds is not None else phase.concurrency or 0
        if peak <= found.most and at_once <= found.most:
            continue
        what = f"{peak:,.10g} requests a second" if peak > found.most else f"{at_once:,} requests at once"
        raise UserError(
            f"phase {phase.name} asks for {what}, and the load workers here hold {found.most:,} in flight "
            f"({found.why}); {found.fix}"
        )
    return found.most


def sources_of(request: SessionRequest, info: TargetInfo) -> list[Source]:
    """Where the server's own figures come from."""
    return sources_for(
        info.url,
        request.metrics_urls,
        os.environ.get(KEY_ENV),
        topology=info.topology,
        on_ray=info.on_ray,
        transport=request.transport,
    )


def fields_of(entry: PlanEvent, t0_ns: int, phases: Sequence[PhasePlan]) -> dict[str, Any]:
    """The line of an entry in the command log of a run that began at ``t0_ns``."""
    fields: dict[str, Any] = {"at_ns": entry.at_ns - t0_ns, "cmd": entry.kind}
    if entry.kind in ("rate", "workers"):
        fields["value"] = entry.value
    elif entry.kind == "phase":
        fields |= {"index": int(entry.value), **asdict(phases[int(entry.value)])}
    return fields


def answered(delta: Delta) -> bool:
    """Whether the target answered some request, be it with a refusal, since the worker's last delta."""
    return bool(delta.chunks or delta.ok or any(kind.startswith("http_") for kind in delta.errors))


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Wakeup:
    """Lets one task sleep until a time, or until it is rung."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wakes the sleeper, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def sleep_until(self, at_ns: int) -> None:
        """Sleeps until ``at_ns`` (perf_counter) is past, or until :meth:`set`."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        wait_s = max(0, at_ns - perf_counter_ns()) / 1e9
        timer = loop.call_later(wait_s + _LOOP_STEP_S, self.set)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None


def worker_spec(
    request: SessionRequest,
    scenario: Scenario,
    info: TargetInfo,
    models: tuple[str, ...],
    prepared: Prepared,
    t0_ns: int,
    tell_ticks: int,
    most_in_flight: int | None = None,
) -> WorkerSpec:
    """All that the workers need, the phases among it. Raises PromptError."""
    # Read here once, so that a bad file is one line and not one from each worker.
    prompts = Prompts(prepared.prompts, models, prepared.body, request.body)
    trace_rps = mean_rate(prompts.at_s) if prompts.at_s is not None else 0.0
    phases = () if request.search is not None else plan(scenario, len(models), trace_rps)
    if request.live:
        rate = phases[-1].rate_to if phases else 0.0
        phases += (PhasePlan("live", rate, rate, drain_s=5.0, arrivals="poisson"),)
    key_env = KEY_ENV if os.environ.get(KEY_ENV) else None
    slo = {} if scenario.slo is None else scenario.slo.model_dump(exclude_none=True)
    return WorkerSpec(
        index=0,
        count=request.workers.count,
        t0_ns=t0_ns,
        seed=scenario.seed,
        address=address_of(info.url, prompts.path, key_env, request.transport),
        prompts=str(prepared.prompts.resolve()),
        models=models,
        body=prepared.body,
        phases=phases,
        timeouts=request.timeouts,
        extra=request.body,
        tell_ticks=tell_ticks,
        most_in_flight=most_in_flight,
        slo_ns={name.removesuffix("_ms"): round(limit * 1e6) for name, limit in slo.items()},
    )


def surroundings(
    request: SessionRequest,
    scenario: Scenario,
    info: TargetInfo,
    models: Sequence[str],
    prepared: Prepared,
    t0_ns: int,
) -> dict[str, Any]:
    """The content of ``environment.json``."""
    slo = scenario.slo
    return environment(
        t0_ns,
        name=scenario.name,
        topology=info.topology,
        target=info.url,
        target_engine=info.engine,
        models=list(printable_names(models)),
        prompts_digest=prepared.digest,
        slo={} if slo is None else slo.model_dump(),
        flags={
            "workers": str(request.workers),
            "find_max": None if request.search is None else asdict(request.search),
            "timeouts": asdict(request.timeouts),
            "backend": None if request.backend is None else asdict(request.backend),
            "metrics_urls": list(request.metrics_urls),
            "transport": request.transport.told(),
            "body": dict(request.body),
        },
    )


class LossWatch:
    """Many failed connections and not one good answer for a while: is anybody there?

    ``answers`` asks the target once; ``lost`` is called when it does not answer.
    """

    def __init__(self, now_ns: int, answers: Callable[[], Awaitable[bool]], lost: Callable[[], None]) -> None:
        self._answers = answers
        self._lost = lost
        self._last_ok = (0, now_ns)  # (ok requests, since when)
        self._asking: asyncio.Task[None] | None = None

    def look(self, live: LiveState, now_ns: int) -> None:
        """Once a second."""
        if live.ok > self._last_ok[0]:
            self._last_ok = (live.ok, now_ns)
        failed = sum(live.errors[kind] for kind in _CONNECT_ERRORS)
        silent = now_ns - self._last_ok[1] > _SILENT_S * 1e9
        if failed >= 5 and silent and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(live))

    async def _ask(self, live: LiveState) -> None:
        before = live.ok
        if not await self._answers() and live.ok == before:
            self._lost()

    async def close(self) -> None:
        """Asks no more."""
        if self._asking is not None:
            await cancel(self._asking)
