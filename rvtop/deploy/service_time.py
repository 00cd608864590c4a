"""How long an engine computes on a request, and how many requests a second it holds within an SLO. Pure.

A step of a batch of b sequences takes ``step_s + b × sequence_s``: weights are read once a step, keys and
values once a sequence (Pope et al., Efficiently scaling transformer inference, MLSys 2023; the roofline of
Williams et al., CACM 52, 2009). A request holds one of ``slots`` places for its prefill and its steps;
those who find none wait: Erlang's C (1917) gives how many, and the mean wait of those, times (1 + c²)/2 for
service times with coefficient of variation c (Allen and Cunneen; Whitt, Approximations for the GI/G/m
queue, Production and Operations Management 2, 1993). The wait of those who wait is taken as exponential.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Seconds: of a request's prefill, of a step, and of each sequence in it. ``source`` says where from."""

    prefill_s: float
    step_s: float
    sequence_s: float
    source: str

    def step(self, batch: float) -> float:
        """One step of a batch, seconds."""
        return self.step_s + batch * self.sequence_s

    def whole(self, batch: float, tokens: int) -> float:
        """A request of ``tokens`` output tokens in such a batch: the prefill makes the first."""
        return self.prefill_s + (tokens - 1) * self.step(batch)


def waits(load: float, slots: int) -> float:
    """The share of arrivals that find no slot, Erlang's C of ``load`` erlangs (mean requests in service).
    1 where the load is not below the slots."""
    if load >= slots:
        return 1.0
    blocked = 1.0  # Erlang's B by its recursion, which never overflows
    for n in range(1, slots + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / slots * (1 - blocked))


def wait_quantile(q: float, load: float, slots: int, service_s: float, variation: float) -> float:
    """The ``q`` quantile of the wait for a slot, seconds; inf where the load is not below the slots."""
    if load >= slots:
        return math.inf
    waiting = waits(load, slots)
    if waiting <= 1 - q:
        return 0.0
    mean = service_s / (slots - load) * (1 + variation**2) / 2
    # Few of those who wait find anybody before them: they wait for the first of all slots to be free, each of
    # which has a part of its service left that is anything from none to all of it.
    first_free = service_s * (1 - math.pow((1 - q) / waiting, 1 / slots))
    return max(mean * math.log(waiting / (1 - q)), first_free)


@dataclass(frozen=True, slots=True)
class Load:
    """What a server is asked for: output ``tokens`` of a request, and the coefficient of ``variation`` of
    service times (0: all alike; 1: as an exponential distribution)."""

    tokens: int
    variation: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A server at a rate: mean ``batch``, seconds of TTFT (p99) and TPOT (mean), E2E (p99)."""

    rps: float
    batch: float
    ttft_p99: float
    tpot_mean: float
    e2e_p99: float

    def meets(self, slo: Mapping[str, float]) -> bool:
        """Whether it holds limits in ms by the names of ``FIGURES``."""
        return all(1000 * getattr(self, name) <= limit for name, limit in slo.items())


#: Of the highest rate: the tail of the wait is an approximation, whose p99 is up to a sixth too short where
#: few wait (a queue in virtual time tells: tests/unit/test_deploy_size.py).
MARGIN = 0.9
#: What an estimate can be held against.
FIGURES = ("ttft_p99", "tpot_mean", "e2e_p99")


def estimate(rps: float, slots: int, service: ServiceTime, load: Load) -> Estimate:
    """A server of ``slots`` at ``rps``: its batch is where Little's law holds, b = rps × service time of b.
    Inf where it can't keep up."""
    fixed = rps * (service.prefill_s + (load.tokens - 1) * service.step_s)
    growth = rps * (load.tokens - 1) * service.sequence_s
    batch = fixed / (1 - growth) if growth < 1 else math.inf
    if batch >= slots:
        return Estimate(rps, float(slots), math.inf, service.step(slots), math.inf)
    whole = service.whole(batch, load.tokens)
    wait = wait_quantile(0.99, batch, slots, whole, load.variation)
    return Estimate(rps, batch, wait + service.prefill_s, service.step(batch), wait + whole)


def allowed(slots: int, service: ServiceTime, load: Load, slo: Mapping[str, float]) -> Estimate | None:
    """The highest rate of one server that holds ``slo`` (ms), less MARGIN; None where even an idle one misses
    it."""
    if slots < 1 or not estimate(0.0, slots, service, load).meets(slo):
        return None
    low, high = 0.0, slots / service.whole(0, load.tokens)
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        found = estimate(middle, slots, service, load)
        if math.isfinite(found.e2e_p99) and found.meets(slo):
            low = middle
        else:
            high = middle
    return estimate(MARGIN * low, slots, service, load)
