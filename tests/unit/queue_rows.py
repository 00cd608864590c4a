"""Seconds of a queue with a known capacity, in virtual time: what the load would see of such a server."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rvtop.stats.saturation import LoadSecond

Floats = npt.NDArray[np.float64]
#: From the moment a request is taken to its first token.
FIRST_TOKEN_S = 0.02


def arrivals(random: np.random.Generator, rate: float, length_s: float, shape: float | None) -> Floats:
    """Times of arrivals at ``rate``: evenly spaced (None), or with gaps of a gamma of that shape (1: Poisson,
    less: burstier)."""
    count = int(rate * length_s * 1.5 + 100)
    gaps = np.full(count, 1 / rate) if shape is None else random.gamma(shape, 1 / (rate * shape), count)
    times = np.cumsum(gaps)
    return times[times < length_s]


def queue_seconds(
    seed: int,
    servers: int,
    service_s: float,
    loads: Sequence[tuple[float, float]],
    shape: float | None,
    spread: float | None = None,
) -> list[LoadSecond]:
    """The seconds of a first-come queue before ``servers`` places, under ``loads``: (share of the capacity
    ``servers / service_s``, seconds), one after the other. Service times are all ``service_s``, or a gamma of
    shape ``spread`` with that mean."""
    random = np.random.default_rng(seed)
    capacity, began, all_times = servers / service_s, 0.0, []
    planned: list[float] = []
    for share, length_s in loads:
        all_times.append(began + arrivals(random, share * capacity, length_s, shape))
        planned += [share * capacity] * int(length_s)
        began += length_s
    times = np.concatenate(all_times)
    service = np.full(times.size, service_s)
    if spread is not None:
        service = random.gamma(spread, service_s / spread, times.size)
    first, end = _served(times, service, servers)
    out = []
    for second, rate in enumerate(planned):
        answered = (first >= second) & (first < second + 1)
        ended = (end >= second) & (end < second + 1)
        out.append(
            LoadSecond(
                in_flight=int((times < second + 1).sum() - (end < second + 1).sum()),
                sent=int(((times >= second) & (times < second + 1)).sum()),
                planned_rps=rate,
                ttft_ms=float((first - times)[answered].mean() * 1e3) if answered.any() else None,
                service_s=float((end - first)[ended].mean()) if ended.any() else None,
            )
        )
    return out


def queue_requests(
    seed: int, servers: int, service_s: float, share: float, length_s: float, waiting: int
) -> tuple[Floats, Floats]:
    """Arrivals, and first tokens, of such a queue under Poisson arrivals of ``share`` of its capacity, with
    ``waiting`` requests more at its beginning."""
    random = np.random.default_rng(seed)
    times = np.concatenate([np.zeros(waiting), arrivals(random, share * servers / service_s, length_s, 1.0)])
    first, _ = _served(times, np.full(times.size, service_s), servers)
    return times, first


def _served(times: Floats, service: Floats, servers: int) -> tuple[Floats, Floats]:
    """When each request has its first token, and its last."""
    free = [0.0] * servers
    begins = np.empty(times.size)
    for number, (at, length) in enumerate(zip(times.tolist(), service.tolist(), strict=True)):
        begins[number] = begin = max(at, heapq.heappop(free))
        heapq.heappush(free, begin + length)
    return begins + FIRST_TOKEN_S, begins + service
