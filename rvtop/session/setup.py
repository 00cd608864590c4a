"""What a session works out before its load begins: whether it can be had at all, what the load workers are
given, and what is noted of the surroundings. Nothing here holds state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rvtop.doctor.machine import free_memory
from rvtop.errors import UserError
from rvtop.load.fleet.workers import Workers
from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import PhasePlan, PlanEvent, mean_rate
from rvtop.load.wire.endpoint import Address, address_of
from rvtop.load.worker.capacity import capacity
from rvtop.load.worker.messages import WorkerSpec
from rvtop.net.transport import Transport
from rvtop.results.environment import environment
from rvtop.scenario.schema import Scenario, Slo
from rvtop.session.player import plan
from rvtop.session.request import SessionRequest
from rvtop.target.probe import KEY_ENV, TargetInfo
from rvtop.telemetry.discover import sources_for
from rvtop.telemetry.sample import TelemetrySource
from rvtop.text import printable_names
from rvtop.workload.prepare import Prepared

_SLO = ("ttft", "tpot", "e2e")


def check_max_rate(scenario: Scenario, limit: float | None) -> None:
    """Raises UserError where a phase asks for more than ``limit`` requests a second."""
    if limit is None:
        return
    for phase in scenario.phases:
        peak = phase.peak_rps
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
        peak = phase.peak_rps
        at_once = max(phase.rounds.sizes) if phase.rounds is not None else phase.concurrency or 0
        if peak <= found.most and at_once <= found.most:
            continue
        what = f"{peak:,.10g} requests a second" if peak > found.most else f"{at_once:,} requests at once"
        raise UserError(
            f"phase {phase.name} asks for {what}, and the load workers here hold {found.most:,} in flight "
            f"({found.why}); {found.fix}"
        )
    return found.most


def sources_of(metrics_urls: Sequence[str], info: TargetInfo, transport: Transport) -> list[TelemetrySource]:
    """Where the server's own figures come from."""
    return sources_for(
        info.url,
        metrics_urls,
        os.environ.get(KEY_ENV),
        topology=info.topology,
        on_ray=info.on_ray,
        transport=transport,
    )


def address_at(url: str, path: str, transport: Transport) -> Address:
    """Where load workers send to; the key's value stays in the environment."""
    return address_of(url, path, KEY_ENV if os.environ.get(KEY_ENV) else None, transport)


def fields_of(entry: PlanEvent, t0_ns: int, phases: Sequence[PhasePlan]) -> dict[str, Any]:
    """The line of an entry in the command log of a run that began at ``t0_ns``."""
    fields: dict[str, Any] = {"at_ns": entry.at_ns - t0_ns, "cmd": entry.kind}
    if entry.kind in ("rate", "workers"):
        fields["value"] = entry.value
        if entry.ramp is not None:
            fields |= {"from": entry.ramp.start, "over_s": entry.ramp.over_s}
            fields["shape"] = "exponential" if entry.ramp.exponential else "linear"
    elif entry.kind == "phase":
        phase = phases[int(entry.value)]
        fields |= {"index": int(entry.value), **asdict(phase), "duration_s": phase.lasts_s}
    elif entry.kind == "target":
        fields["index"] = int(entry.value)
    elif entry.kind == "workload" and entry.lengths is not None:
        fields |= asdict(entry.lengths)
    elif entry.kind == "slo":
        limits = entry.slo_ns or {}
        fields |= {f"{name}_ms": limits[name] / 1e6 if name in limits else None for name in _SLO}
    return fields


def slo_ns(slo: Slo | None) -> dict[str, int]:
    """The limits of an SLO as load workers count by them, ns by figure."""
    limits = {} if slo is None else slo.model_dump(exclude_none=True)
    return {name.removesuffix("_ms"): round(limit * 1e6) for name, limit in limits.items()}


def worker_spec(
    request: SessionRequest,
    scenario: Scenario,
    info: TargetInfo,
    models: tuple[str, ...],
    prepared: Prepared,
    t0_ns: int,
    tell_ticks: int,
    most_in_flight: int | None = None,
    traces: int = 0,
    shares: tuple[float, ...] = (),
) -> WorkerSpec:
    """All that the workers need, the phases among it. With ``shares`` of the models a round of one asks one
    model, else each of them. Raises PromptError."""
    # Read here once, so that a bad file is one line and not one from each worker.
    prompts = Prompts(prepared.prompts, models, prepared.body, request.body)
    trace_rps = mean_rate(prompts.at_s) if prompts.at_s is not None else 0.0
    phases = () if request.search is not None else plan(scenario, 1 if shares else len(models), trace_rps)
    if request.live:
        rate = phases[-1].rate_to if phases else 0.0
        phases += (PhasePlan("live", rate, rate, drain_s=5.0, arrivals="poisson"),)
    return WorkerSpec(
        index=0,
        count=request.workers.count,
        t0_ns=t0_ns,
        seed=scenario.seed,
        address=address_at(info.url, prompts.path, request.transport),
        prompts=str(prepared.prompts.resolve()),
        models=models,
        shares=shares,
        body=prepared.body,
        phases=phases,
        timeouts=request.timeouts,
        extra=request.body,
        traces=f"{traces:016x}" if traces else "",
        tell_ticks=tell_ticks,
        most_in_flight=most_in_flight,
        slo_ns=slo_ns(scenario.slo),
    )


def surroundings(
    request: SessionRequest,
    scenario: Scenario,
    info: TargetInfo,
    models: Sequence[str],
    prepared: Prepared,
    t0_ns: int,
    start_s: float | None = None,
) -> dict[str, Any]:
    """The content of ``environment.json``; ``start_s``: how long a backend of ours took to be ready."""
    slo = scenario.slo
    return environment(
        t0_ns,
        name=scenario.name,
        topology=info.topology,
        target=info.url,
        target_engine=info.engine,
        target_engines=[dict(engine) for engine in info.knobs],
        start_s=start_s,
        models=list(printable_names(models)),
        prompts_digest=prepared.digest,
        slo={} if slo is None else slo.model_dump(),
        prices=asdict(request.prices),
        flags={
            "workers": str(request.workers),
            "find_max": None if request.search is None else asdict(request.search),
            "timeouts": asdict(request.timeouts),
            "backend": None if request.backend is None else asdict(request.backend),
            "metrics_urls": list(request.metrics_urls),
            "transport": request.transport.for_environment(),
            "body": dict(request.body),
            "pair": None if request.pair is None else asdict(request.pair),
            "exclude_warm_up": request.exclude_warm_up,
            "probe_rate": request.probe_rate,
        },
    )
