"""When the load client itself distorts the figures."""

from __future__ import annotations

from collections.abc import Mapping

LAG_LIMIT_MS = 5.0
LAG_SHARE = 0.05
#: Below this a share of a tiny TTFT says nothing: it is the machine's own scheduling noise.
LAG_FLOOR_MS = 1.0
#: A late send moves nothing but the first latency and what contains it: below this share of a long one it
#: cannot be seen in the figures.
LAG_LEAST_SHARE = 0.01
#: A worker that uses more of a core than this has no room left: what comes next waits.
CPU_LIMIT = 0.9


def _fix(workers: str) -> str:
    """What helps a run that was given ``--workers WORKERS``."""
    if workers == "auto":  # it has taken what this machine has
        return "free this machine's cores or use workers on other machines (--workers ray:N)"
    if workers.startswith("ray:"):
        return f"add workers (a larger N than --workers {workers}) or free the cores of their nodes"
    return "add workers (--workers auto) or free this machine's cores"


def client_limited(
    lag_p99_ms: float | None,
    first_p50_ms: float | None,
    errors: Mapping[str, int],
    loop_lag_p99_ms: float | None = None,
    worker_cpu: float | None = None,
    workers: str = "1",
    first: str = "TTFT",
) -> str | None:
    """Why the load client's own delays distort the figures and what to do, or None while they do not.

    The p99 of late sends and of the event loop's delays are each held against 5 ms and against 5 % of the
    median of the first latency (TTFT, or E2E of answers in one piece); late sends of more than 5 ms count
    from 1 % of it on. ``worker_cpu`` is the busiest worker's share (0..1) of a core; ``workers`` is the run's
    ``--workers``, ``first`` the name of that latency.
    """
    fix = _fix(workers)
    if errors.get("client_limit"):
        return "this machine ran out of sockets: raise the open-file limit or add workers"
    blocked = "the load worker's event loop was blocked for"
    least_ms = 0.0 if first_p50_ms is None else LAG_LEAST_SHARE * first_p50_ms
    for what, ms, counts_from in (
        ("sends are late by", lag_p99_ms, least_ms),
        (blocked, loop_lag_p99_ms, 0.0),
    ):
        if ms is None or ms < counts_from:
            continue
        if ms > LAG_LIMIT_MS:
            return f"{what} {ms:.1f} ms (p99): {fix}"
        if first_p50_ms is not None and ms > max(LAG_FLOOR_MS, LAG_SHARE * first_p50_ms):
            return f"{what} {100.0 * ms / first_p50_ms:.0f} % of {first} (p99 {ms:.1f} ms): {fix}"
    if worker_cpu is not None and worker_cpu > CPU_LIMIT:
        return f"a load worker uses {100 * worker_cpu:.0f} % of a core: {fix}"
    return None
