"""`python -m tests.bench`: every benchmark in turn; `python -m tests.bench.truth` and so on run one."""

from __future__ import annotations

from tests.bench import (
    batch,
    canary,
    compare,
    dashboard,
    endpoints,
    frames,
    front_cost,
    grpc_calls,
    https,
    kv_events,
    pairs,
    peers,
    rates,
    ray_workers,
    request_metrics,
    retarget,
    router,
    shape,
    spans,
    startup,
    topologies,
    truth,
)


def main() -> None:
    """Runs them one after the other: side by side they would measure each other."""
    startup.main()
    truth.main([])
    endpoints.main([])
    rates.main([])
    grpc_calls.main([])
    https.main([])
    dashboard.main([])
    frames.main([])
    peers.main([])
    shape.main([])
    topologies.main([])
    front_cost.main([])
    request_metrics.main([])
    router.main([])
    retarget.main([])
    canary.main([])
    spans.main([])
    ray_workers.main([])
    compare.main([])
    pairs.main([])
    kv_events.main([])
    batch.main([])


if __name__ == "__main__":
    main()
