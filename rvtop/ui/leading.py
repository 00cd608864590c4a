"""The latency that a run is judged by first: TTFT, or E2E where answers come in one piece."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.contract.snapshot import Dist, Snapshot
from rvtop.stats.distribution import Distribution


@dataclass(frozen=True, slots=True)
class Leading:
    """``name`` is TTFT or E2E; ``slo_ms`` its limit, None: none. ``p50`` and ``p99`` name its columns of the
    series."""

    name: str
    figures: Dist
    recent: Distribution
    phase: Distribution
    slo_ms: float | None
    p50: str = "ttft_p50_ms"
    p99: str = "ttft_p99_ms"


def leading(s: Snapshot) -> Leading:
    """Of the load in ``s``."""
    latency = s.latency
    if latency.whole_phase.count:
        return Leading(
            "E2E",
            latency.e2e,
            latency.whole_recent,
            latency.whole_phase,
            s.slo_e2e_ms,
            "whole_p50_ms",
            "whole_p99_ms",
        )
    return Leading("TTFT", latency.ttft, latency.ttft_recent, latency.ttft_phase, s.slo_ttft_ms)
