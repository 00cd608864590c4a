"""Builds the frozen Snapshot, and the once-a-second row of the timeline, from the states of a session."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

from rvtop.contract.replicas import Replicas
from rvtop.contract.requests import Requests
from rvtop.contract.snapshot import (
    Engine,
    Event,
    Latency,
    Load,
    Phase,
    Series,
    Snapshot,
    StartStep,
    Target,
    Tokens,
)
from rvtop.load.plan.schedule import NEVER
from rvtop.scenario.schema import Slo
from rvtop.session.live import SECOND_NS, WINDOW_S, LiveState, Second, dist, merged
from rvtop.session.player import Player
from rvtop.stats.distribution import EMPTY
from rvtop.stats.limits import client_limited
from rvtop.telemetry.state import ServerView
from rvtop.text import printable_names

_SERIES_POINTS = 600
_CPU_WINDOW_NS = 2 * SECOND_NS


class _Info(Protocol):
    """What a probe learned of the target."""

    @property
    def url(self) -> str: ...
    @property
    def topology(self) -> str | None: ...
    @property
    def engine(self) -> str | None: ...
    @property
    def places(self) -> Mapping[str, int]: ...
    @property
    def dashboard(self) -> str: ...


def _ms(ns: float) -> float | None:
    return None if ns != ns else ns / 1e6


def _delays(seconds: list[Second]) -> tuple[float | None, float | None, float | None]:
    """p99 of late sends, median TTFT (E2E of answers in one piece) and p99 of the event loops' delays, ms.
    Where nothing was sent or read a loop that stood still bent nothing."""
    lag = _ms(merged([s.lag for s in seconds]).percentile(99))
    first = merged([s.ttft for s in seconds])
    first = first if first.count else merged([s.e2e for s in seconds])
    loop = _ms(merged([s.loop for s in seconds if s.lag.count or s.chunks]).percentile(99))
    return lag, _ms(first.percentile(50)), loop


def _first_of(live: LiveState) -> str:
    """Which latency comes first: answers in one piece have no TTFT."""
    return "E2E" if live.phase_e2e.count and not live.phase_ttft.count else "TTFT"


def limited_since(live: LiveState, now_ns: int, since_ns: int, workers: str) -> str | None:
    """Why the client bends the figures of the phase that began at ``since_ns``, as far as the window goes
    back; None while it does not. ``workers`` is as ``--workers`` has it."""
    begun, now = ((t - live.t0_ns) // SECOND_NS for t in (since_ns, now_ns))
    lag, ttft, loop_lag = _delays(live.recent(now_ns, min(WINDOW_S, now - begun + 1)))
    # Before that, the CPU time is also that of the phase before.
    cpu = live.worker_cpu(now_ns) if now_ns - since_ns >= _CPU_WINDOW_NS else None
    return client_limited(lag, ttft, live.phase_errors, loop_lag, cpu, workers, _first_of(live))


def _ends(name: str, values: Iterable[float | None]) -> dict[str, float | None]:
    """The least and the most of what is known, as ``name_min`` and ``name_max``."""
    known = [value for value in values if value is not None]
    return {f"{name}_min": min(known, default=None), f"{name}_max": max(known, default=None)}


def _replica_sums(replicas: Sequence[Replicas]) -> dict[str, float | None]:
    """Of all models together, as ``replicas_wanted`` and so on; None where none is told."""
    sums: dict[str, float | None] = {}
    for name in ("wanted", "starting", "healthy", "draining"):
        known = [count for each in replicas if (count := getattr(each, name)) is not None]
        sums[f"replicas_{name}"] = sum(known) if known else None
    return sums


def timeline_row(
    t_s: float, now_ns: int, live: LiveState, server: ServerView, target_rps: float | None
) -> dict[str, Any]:
    """One second of the run as plain data: a line of ``timeline.jsonl`` and a point of every chart.

    ``totals`` are the growth of the server's counters since we began to watch, ``figures`` those of all
    engines together (keys of ``contract.figures``).
    """
    offered, sent, completed = live.rates(now_ns)
    recent = merged([s.ttft for s in live.recent(now_ns)])
    in_one_piece = _first_of(live) == "E2E"
    whole = merged([s.e2e for s in live.recent(now_ns)] if in_one_piece else [])
    last = live.last_full(now_ns)
    return {
        "t_s": t_s,
        "target_rps": target_rps,
        "offered_rps": offered,
        "sent_rps": sent,
        "completed_rps": completed,
        "in_flight": live.in_flight,
        "ok": live.ok,
        "errors": dict(live.errors),
        "tokens_per_s": live.tokens_per_s(now_ns),
        "server_tokens_per_s": server.tokens_per_s,
        "ttft_p50_ms": _ms(recent.percentile(50)),
        "ttft_p99_ms": _ms(recent.percentile(99)),
        "ttft_mean_ms": _ms(recent.mean_ns),
        "whole_p50_ms": _ms(whole.percentile(50)),
        "whole_p99_ms": _ms(whole.percentile(99)),
        "lag_p99_ms": _delays(live.recent(now_ns))[0],
        "server_ttft_ms": server.ttft.mean if server.ttft is not None else None,
        "server_itl_ms": server.itl.mean if server.itl is not None else None,
        "kv_usage": server.kv_usage,
        "running": server.running,
        "waiting": server.waiting,
        "gpu_memory": server.gpu_memory,
        **_ends("gpu_util", [gpu.util for gpu in server.gpus if gpu.stale_s is None]),
        **_ends("node_cpu", [node.cpu for node in server.nodes if node.stale_s is None]),
        "preemptions": server.totals.get("preemptions"),
        "watts": server.watts,
        "cpu_watts": server.cpu_watts,
        "cpu_joules": server.cpu_joules,
        "loop_lag_ms": last.loop_lag_ns / 1e6 if last else None,
        "workers": len(live.cpu_s),
        "worker_cpu_s": sum(live.cpu_s.values()),
        "worker_cpu": live.worker_cpu(now_ns),
        "engines": [asdict(engine) for engine in server.engines if engine.stale_s is None],
        "gpus": [asdict(gpu) for gpu in server.gpus if gpu.stale_s is None],
        "nodes": [asdict(node) for node in server.nodes if node.stale_s is None],
        "deployments": [asdict(deployment) for deployment in server.deployments],
        "replicas": [asdict(each) for each in server.replicas],
        **_replica_sums(server.replicas),
        "figures": dict(server.figures),
        "totals": dict(server.totals),
    }


class SeriesLog:
    """The last ten minutes of rows as the charts want them: their ``t_s`` count from the session's start,
    ``lead_s`` before the load's. Whole seconds: a row that comes a little late stays in its second."""

    def __init__(self, lead_s: int = 0) -> None:
        self._lead_s = lead_s
        self._rows: deque[dict[str, Any]] = deque(maxlen=_SERIES_POINTS)
        self.series = Series()

    def add(self, row: dict[str, Any]) -> None:
        """One second more."""
        self._rows.append({**row, "t_s": row["t_s"] + self._lead_s})
        self.series = Series(**{f.name: tuple(r[f.name] for r in self._rows) for f in fields(Series)})


@dataclass(frozen=True)
class View:
    """The states of a session at one moment."""

    request_name: str
    state: str
    target: _Info | None
    url: str
    topology: str | None
    owned: bool
    start: tuple[str, ...]
    models: tuple[str, ...]
    player: Player
    live: LiveState
    server: ServerView
    target_rps: float
    max_rate: float | None
    slo: Slo | None
    workers: str  # as --workers has it

    def snapshot(
        self,
        *,
        now_ns: int,
        began_ns: int,
        seq: int,
        series: Series,
        events: tuple[Event, ...],
        steps: tuple[StartStep, ...],
        out_dir: str,
        message: str,
        target_down_s: float | None,
        requests: Requests,
    ) -> Snapshot:
        """The picture."""
        return Snapshot(
            seq=seq,
            t_s=(now_ns - began_ns) / 1e9,
            unix_s=time.time(),
            state=self.state,
            name=self.request_name,
            target=self._target(),
            phase=self._phase(now_ns),
            load=self._load(now_ns),
            latency=self._latency(now_ns),
            tokens=self._tokens(now_ns, series),
            engines=self._engines(),
            figures=self.server.figures,
            gpus=self.server.gpus,
            nodes=self.server.nodes,
            deployments=self.server.deployments,
            replicas=self.server.replicas,
            sources=self.server.sources,
            series=series,
            events=events,
            steps=steps,
            slo_ttft_ms=self.slo.ttft_ms if self.slo else None,
            slo_e2e_ms=self.slo.e2e_ms if self.slo else None,
            out_dir=out_dir,
            message=message,
            target_down_s=target_down_s,
            requests=requests,
        )

    def _engines(self) -> tuple[Engine, ...]:
        places = self.target.places if self.target else {}
        if not places:
            return self.server.engines
        return tuple(replace(e, max_seqs=places.get(e.name)) for e in self.server.engines)

    def _target(self) -> Target:
        info = self.target
        return Target(
            url=info.url if info else self.url,
            topology=self.topology or (info.topology if info else None),
            models=printable_names(self.models),
            engine=self.server.engine_kind or (info.engine if info else None),
            owned=self.owned,
            start=self.start,
            dashboard=info.dashboard if info else "",
        )

    def _phase(self, now_ns: int) -> Phase | None:
        phase = self.player.phase
        if phase is None:
            return None
        return Phase(
            name=phase.name,
            index=self.player.index,
            count=len(self.player.phases),
            elapsed_s=max(0.0, (now_ns - self.player.start_ns) / 1e9),
            duration_s=None if self.player.end_ns >= NEVER or phase.burst else phase.duration_s,
            warmup=phase.warmup,
            concurrency=phase.concurrency,
        )

    def _load(self, now_ns: int) -> Load:
        live, phase = self.live, self.player.phase
        offered, sent, completed = live.rates(now_ns)
        recent = live.recent(now_ns)
        lag, ttft, loop_lag = _delays(recent)
        return Load(
            target_rps=self.target_rps if phase is not None and not phase.concurrency else None,
            offered_rps=offered,
            sent_rps=sent,
            completed_rps=completed,
            in_flight=live.in_flight,
            sent=live.sent,
            ok=live.ok,
            errors=tuple(live.errors.most_common()),
            errors_recent=sum(s.errors for s in recent),
            dropped=live.errors["dropped"],
            lag_p99_ms=lag,
            goodput_rps=live.goodput(now_ns) if self.slo is not None else None,
            client_limited=client_limited(
                lag, ttft, live.errors, loop_lag, live.worker_cpu(now_ns), self.workers, _first_of(live)
            ),
            max_rate=self.max_rate,
            due=live.due,
        )

    def _latency(self, now_ns: int) -> Latency:
        live = self.live
        recent, last = live.recent(now_ns), live.last_full(now_ns)
        ttft, e2e = merged([s.ttft for s in recent]), merged([s.e2e for s in recent])
        whole = _first_of(live) == "E2E"
        return Latency(
            ttft=dist(last.ttft if last else None, ttft, live.phase_ttft),
            itl=dist(last.gaps if last else None, merged([s.gaps for s in recent]), live.phase_gaps),
            e2e=dist(last.e2e if last else None, e2e, live.phase_e2e),
            ttft_recent=ttft.distribution(),
            ttft_phase=live.phase_ttft.distribution(),
            itl_is_chunks=not live.gaps_are_tokens,
            server_ttft=self.server.ttft,
            server_itl=self.server.itl,
            server_e2e=self.server.e2e,
            whole_recent=e2e.distribution() if whole else EMPTY,
            whole_phase=live.phase_e2e.distribution() if whole else EMPTY,
        )

    def _tokens(self, now_ns: int, series: Series) -> Tokens:
        per_s = self.live.tokens_per_s(now_ns)
        known = [value for value in series.tokens_per_s if value is not None]
        return Tokens(
            per_s=per_s,
            max_per_s=max(known, default=None),
            total=self.live.tokens,
            estimated=True,  # live it is chunks times a ratio, always; the summary has the server's usage
            server_per_s=self.server.tokens_per_s,
        )
