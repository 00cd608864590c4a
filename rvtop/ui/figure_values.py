"""What each figure of the help says now, as text; ``help_text.PANELS`` has the same names."""

from __future__ import annotations

from collections.abc import Callable

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.format import MISSING, count, percent, rate, sig3

Value = Callable[[Snapshot], str]


def _ms(value: float | None) -> str:
    return f"{sig3(value)} ms" if value is not None else MISSING


def _rps(value: float | None) -> str:
    return f"{rate(value)} rps" if value is not None else MISSING


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _total(values: list[float | None]) -> float | None:
    known = _known(values)
    return sum(known) if known else None


def _mean(values: list[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


def _three(name: str) -> Value:
    def text(s: Snapshot) -> str:
        d = getattr(s.latency, name)
        return f"p50 {sig3(d.p50)}  p90 {sig3(d.p90)}  p99 {sig3(d.p99)} ms"

    return text


def _last(name: str) -> Callable[[Snapshot], float | None]:
    def newest(s: Snapshot) -> float | None:
        values: tuple[float | None, ...] = getattr(s.series, name)
        return values[-1] if values else None

    return newest


#: By the panel's topic and the figure's name; a figure without an entry is explained without a value.
VALUES: dict[tuple[str, str], Value] = {
    ("load", "rps"): lambda s: _rps(s.load.target_rps),
    ("load", "goodput"): lambda s: _rps(s.load.goodput_rps),
    ("load", "waiting"): lambda s: count(s.figures.get("waiting")),
    ("load", "in flight"): lambda s: count(s.load.in_flight),
    ("load", "ok"): lambda s: count(s.load.ok),
    ("load", "errors"): lambda s: count(sum(n for _, n in s.load.errors)),
    ("load", "dropped"): lambda s: count(s.load.dropped),
    ("load", "client lag"): lambda s: _ms(s.load.lag_p99_ms),
    ("ttft", "█ last 10 s"): lambda s: f"{count(s.latency.ttft_recent.count)} requests",
    ("ttft", "▒ phase"): lambda s: f"{count(s.latency.ttft_phase.count)} requests",
    ("ttft", "p50 p90 p99"): _three("ttft"),
    ("ttft", "SLO"): lambda s: _ms(s.slo_ttft_ms),
    ("latency", "TTFT"): _three("ttft"),
    ("latency", "ITL"): lambda s: MISSING if s.latency.itl_is_chunks else _three("itl")(s),
    ("latency", "ICL"): lambda s: _three("itl")(s) if s.latency.itl_is_chunks else MISSING,
    ("latency", "E2E"): _three("e2e"),
    ("latency_time", "█ p50"): lambda s: _ms(s.latency.ttft.p50),
    ("latency_time", "▒ p99"): lambda s: _ms(s.latency.ttft.p99),
    ("latency_time", "┈ SLO"): lambda s: _ms(s.slo_ttft_ms),
    ("gpu_use", "█ least"): lambda s: percent(min(_known([g.util for g in s.gpus]), default=None)),
    ("gpu_use", "▒ most"): lambda s: percent(max(_known([g.util for g in s.gpus]), default=None)),
    ("inflight", "█ batch"): lambda s: count(s.figures.get("running")),
    ("inflight", "▓ wait"): lambda s: count(s.figures.get("waiting")),
    ("tokens", "█ client"): lambda s: f"{sig3(s.tokens.per_s)} tokens/s",
    ("tokens", "─ SERVER"): lambda s: f"{sig3(s.tokens.server_per_s)} tokens/s",
    ("tokens", "max"): lambda s: f"{sig3(s.tokens.max_per_s)} tokens/s",
    ("engines", "run"): lambda s: count(_total([e.running for e in s.engines])),
    ("engines", "wait"): lambda s: count(_total([e.waiting for e in s.engines])),
    ("engines", "KV"): lambda s: percent(_mean([e.kv_usage for e in s.engines])),
    ("engines", "pre"): lambda s: count(_total([e.preemptions for e in s.engines])),
    ("engines", "prefix hits"): lambda s: percent(_mean([e.prefix_hit_rate for e in s.engines])),
    ("gpu", "use"): lambda s: percent(_mean([g.util for g in s.gpus])),
    ("kvqueue", "KV"): lambda s: percent(_last("kv_usage")(s)),
    ("kvqueue", "waiting"): lambda s: count(_last("waiting")(s)),
}


def value_now(topic: str, figure: str, s: Snapshot | None) -> str:
    """What the figure says now; empty where it has no single value."""
    value = VALUES.get((topic, figure))
    return "" if value is None else MISSING if s is None else value(s)
