"""What an agent is told of a session and of a run: plain figures, ``None`` where one is not known."""

from __future__ import annotations

from typing import Any

from rvtop.contract.snapshot import Dist, Snapshot
from rvtop.text import printable

#: Parts of a summary that an agent reads; the rest is for tools.
_SUMMARY = (
    *("name", "topology", "target", "models", "started_at", "duration_s", "end", "requests", "rate", "kpm"),
    *("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms", "tokens", "goodput_rps", "client", "energy", "cost"),
    *("find_max", "capacity", "findings"),
)
_EVENTS = 20


def of_snapshot(s: Snapshot) -> dict[str, Any]:
    """The picture now. Times are milliseconds over the last 10 s, rates requests a second."""
    load, latency, server = s.load, s.latency, s.latency.server_ttft
    return {
        "state": s.state,
        "t_s": round(s.t_s, 2),
        "message": s.message,
        "target": {"url": s.target.url, "topology": s.target.topology, "models": list(s.target.models)},
        "phase": s.phase.name if s.phase else None,
        "target_rps": load.target_rps,
        "completed_rps": load.completed_rps,
        "in_flight": load.in_flight,
        "sent": load.sent,
        "ok": load.ok,
        "errors": dict(load.errors),
        "errors_last_10_s": load.errors_recent,
        "goodput_rps": load.goodput_rps,
        "ttft_ms": _dist(latency.ttft),
        ("inter_chunk_ms" if latency.itl_is_chunks else "itl_ms"): _dist(latency.itl),
        "e2e_ms": _dist(latency.e2e),
        "tokens_per_s": s.tokens.per_s,
        "server": {
            "ttft_p50_ms": server.p50 if server else None,
            "ttft_p99_ms": server.p99 if server else None,
            "tokens_per_s": s.tokens.server_per_s,
            **s.figures,
        },
        "client_limited": load.client_limited,
        "bound_by": None if s.verdict is None else {"name": s.verdict.name, "text": s.verdict.title},
        "saturated": s.saturation is not None,
        "starting": [
            {"step": step.name, "state": step.state, "elapsed_s": step.elapsed_s, "detail": step.detail}
            for step in s.steps
            if s.state == "starting"
        ],
        "events": [event.text for event in s.events[-_EVENTS:]],
        "run": s.out_dir,
    }


def of_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The parts of ``summary.json`` that say how a run went, and the same of each phase."""
    phases = [
        {name: phase[name] for name in ("name", *_SUMMARY) if name in phase} for phase in summary["phases"]
    ]
    return {**{name: summary[name] for name in _SUMMARY if name in summary}, "phases": phases}


def safe(value: Any) -> Any:
    """The same without what a server may have put into names and texts to reach a terminal."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): safe(each) for key, each in value.items()}
    return [safe(each) for each in value] if isinstance(value, list | tuple) else value


def _dist(dist: Dist) -> dict[str, float | int | None]:
    return {"mean": dist.mean, "p50": dist.p50, "p90": dist.p90, "p99": dist.p99, "count": dist.count}
