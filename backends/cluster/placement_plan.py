"""How many replicas each of several models gets, of so many slots. Pure.

A slot is a GPU, a part of one, a core, or a unit of a Ray resource. A replica takes slots of one bin (a GPU
or a node) and computes on ``places`` requests at once; what comes beyond waits. For n replicas this is the
queue M/M/k with k = n × places servers, so P(wait > t) = C(k, a) · exp(−(kμ − λ)t), where C is Erlang's
formula (A. K. Erlang, 1917), a = λ/μ and 1/μ a request's time in its place. From it follows how many requests
a second n replicas *sustain* within the SLO. A model's *headroom* is what it sustains over what arrives.

Each model gets one replica; each further one goes to the model with the least headroom that it still fits. So
the least headroom is as large as it can be (where replicas are equally large), a model whose load grows never
gets fewer, and where there is too little for all, all are short by the same share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

# Beyond so many servers a queue of as many, each so much faster, waits nearly as long.
_MOST_SERVERS = 512
# The share of its throughput that a model may use where no wait is short enough for the SLO.
_BUSY = 0.8
# What of a replica's memory its weights may take; the rest holds keys and values, and what computing needs.
WEIGHTS_SHARE = 0.7


class PlanError(ValueError):
    """The models don't fit; one line."""


@dataclass(frozen=True)
class Profile:
    """How a replica computes: ``places`` requests at once; a step in which b of them decode takes ``base_ms +
    b × seq_ms`` and gives each a token; ``prefill_ms`` of its place go before the first."""

    places: int
    base_ms: float
    seq_ms: float = 0.0
    prefill_ms: float = 0.0

    def token_ms(self, batch: int) -> float:
        """From one token of a request to the next."""
        return self.base_ms + batch * self.seq_ms


@dataclass(frozen=True)
class Slo:
    """Limits that the share ``met`` of the requests shall keep. TTFT counts from the arrival; ``tpot_ms``
    None: any."""

    ttft_ms: float = 1000.0
    tpot_ms: float | None = None
    met: float = 0.9

    @property
    def text(self) -> str:
        tpot = "" if self.tpot_ms is None else f", TPOT ≤ {self.tpot_ms:g} ms"
        return f"TTFT ≤ {self.ttft_ms:g} ms{tpot} for {100 * self.met:g} %"


@dataclass(frozen=True)
class ModelLoad:
    """A model and what arrives for it: ``rate`` requests a second of ``tokens`` output tokens in the mean.
    ``size`` are the bytes of its weights, None where unknown; ``slots`` what a replica takes at least;
    ``known`` says whence the figures are: ``measured``, ``expected`` or ``assumed``."""

    name: str
    rate: float
    tokens: float
    profile: Profile
    size: int | None = None
    slots: int = 1
    known: str = "measured"


@dataclass(frozen=True)
class Capacity:
    """Free slots of each bin. ``slot_bytes`` None: memory is not counted. ``grows``: each model has one
    replica, which gets further slots of its bin instead of its model further replicas; a profile is then of a
    replica with one slot."""

    bins: tuple[int, ...]
    unit: str = "slot"
    slot_bytes: float | None = None
    grows: bool = False

    @property
    def total(self) -> int:
        return sum(self.bins)


@dataclass(frozen=True)
class Assignment:
    """What a model gets. ``headroom`` is inf where nothing arrives; ``memory`` are the bytes of a replica."""

    model: str
    replicas: int
    slots: int  # of each replica
    headroom: float
    reason: str
    memory: float | None = None


@dataclass(frozen=True)
class Plan:
    models: tuple[Assignment, ...]
    free: int  # slots that nobody has

    @property
    def replicas(self) -> dict[str, int]:
        return {assigned.model: assigned.replicas for assigned in self.models}

    @property
    def headroom(self) -> float:
        """The least of all models."""
        return min(assigned.headroom for assigned in self.models)


def plan(loads: Sequence[ModelLoad], capacity: Capacity, slo: Slo) -> Plan:
    """The replicas of each model, in the order of ``loads``, with the reason for each. Raises PlanError."""
    sized = [replace(load, slots=slots_of(load, capacity)) for load in loads]
    bins, lies = list(capacity.bins), dict.fromkeys((load.name for load in sized), 0)
    for load in sorted(sized, key=lambda load: -load.slots):  # the large ones while there is room
        number = _takes(bins, load.slots)
        if number is None:
            raise PlanError(_too_little(sized, load, capacity))
        lies[load.name] = number
    counts = {load.name: 1 for load in sized}
    if capacity.grows:
        sized = _grown(sized, bins, lies, slo)
        return _told(sized, counts, capacity, slo, sum(bins))
    while True:
        room = max(bins, default=0)
        fitting = [load for load in sized if load.slots <= room and load.rate > 0]
        if not fitting:
            break
        poorest = min(fitting, key=lambda load: headroom(load, counts[load.name], slo))
        counts[poorest.name] += 1
        _takes(bins, poorest.slots)
    return _told(sized, counts, capacity, slo, sum(bins))


def fixed(loads: Sequence[ModelLoad], counts: Mapping[str, int], capacity: Capacity, slo: Slo) -> Plan:
    """The plan of replicas that are given, as it looks under these loads."""
    sized = [replace(load, slots=slots_of(load, capacity)) for load in loads]
    taken = sum(counts[load.name] * load.slots for load in sized)
    return _told(sized, counts, capacity, slo, capacity.total - taken)


def slots_of(load: ModelLoad, capacity: Capacity) -> int:
    """Slots of a replica, so that its memory holds the weights and leaves room for keys and values."""
    if load.size is None or capacity.slot_bytes is None:
        return load.slots
    return max(load.slots, math.ceil(load.size / (WEIGHTS_SHARE * capacity.slot_bytes)))


def headroom(load: ModelLoad, replicas: int, slo: Slo) -> float:
    """What so many replicas sustain over what arrives; inf where nothing does."""
    if load.rate <= 0:
        return math.inf
    return sustained(load.profile, load.tokens, replicas, slo) / load.rate


@lru_cache(maxsize=4096)
def sustained(profile: Profile, tokens: float, replicas: int, slo: Slo) -> float:
    """Requests a second of ``tokens`` tokens that ``replicas`` serve within the SLO."""
    batch = _batch(profile, slo)
    token_ms = profile.token_ms(batch)
    hold_s = (profile.prefill_ms + tokens * token_ms) / 1e3
    servers = replicas * batch
    most = servers / hold_s
    wait_s = (slo.ttft_ms - profile.prefill_ms - token_ms) / 1e3
    if wait_s <= 0:  # not even one that finds a place keeps it
        return _BUSY * most
    counted = min(servers, _MOST_SERVERS)
    low, high = 0.0, most
    for _ in range(40):
        rate = (low + high) / 2
        kept = _waits_longer(counted, rate * counted / most, most - rate, wait_s) <= 1 - slo.met
        low, high = (rate, high) if kept else (low, rate)
    return low


def _batch(profile: Profile, slo: Slo) -> int:
    """How many decode at once: all places, or as many as leave TPOT within the SLO; at least one."""
    if slo.tpot_ms is None or profile.token_ms(profile.places) <= slo.tpot_ms or profile.seq_ms <= 0:
        return profile.places
    return max(1, min(profile.places, int((slo.tpot_ms - profile.base_ms) / profile.seq_ms)))


def _waits_longer(servers: int, offered: float, spare: float, wait_s: float) -> float:
    """P(wait > wait_s) of M/M/k: ``offered`` = λ/μ, ``spare`` = kμ − λ in 1/s."""
    if offered >= servers:
        return 1.0
    inverse = 1.0  # of Erlang's B, which begins at 1 without servers
    for k in range(1, servers + 1):
        inverse = 1.0 + inverse * k / offered
        if inverse > 1e12:  # nobody is ever refused, so nobody waits
            return 0.0
    waits = 1.0 / (inverse - (inverse - 1.0) * offered / servers)
    return waits * math.exp(-spare * wait_s)


def _takes(bins: list[int], slots: int) -> int | None:
    """Takes slots from the bin that has the least to spare, and returns its number; None: none has them."""
    fitting = [number for number, free in enumerate(bins) if free >= slots]
    if not fitting:
        return None
    number = min(fitting, key=lambda number: bins[number])
    bins[number] -= slots
    return number


def _grown(sized: Sequence[ModelLoad], bins: list[int], lies: Mapping[str, int], slo: Slo) -> list[ModelLoad]:
    """The models with the slots of their replicas, each of which takes what is left of ``bins`` where it
    ``lies``, the poorest first; k times the slots compute k times as fast."""
    grown = {load.name: _of_slots(load, load.slots) for load in sized}
    while True:
        fitting = [load for load in grown.values() if load.rate > 0 and bins[lies[load.name]] > 0]
        if not fitting:
            return [grown[load.name] for load in sized]
        poorest = min(fitting, key=lambda load: headroom(load, 1, slo))
        bins[lies[poorest.name]] -= 1
        given = next(load for load in sized if load.name == poorest.name)
        grown[poorest.name] = _of_slots(given, poorest.slots + 1)


def _of_slots(load: ModelLoad, slots: int) -> ModelLoad:
    """The model with a replica of so many slots, by the profile of one."""
    one = load.profile
    times = (one.base_ms / slots, one.seq_ms / slots, one.prefill_ms / slots)
    return replace(load, slots=slots, profile=Profile(one.places, *times))


def _told(
    sized: Sequence[ModelLoad], counts: Mapping[str, int], capacity: Capacity, slo: Slo, free: int
) -> Plan:
    made = []
    for load in sized:
        count, size = counts[load.name], load.slots
        memory = None if capacity.slot_bytes is None else size * capacity.slot_bytes
        reason = _reason(load, count, capacity, slo)
        made.append(Assignment(load.name, count, size, headroom(load, count, slo), reason, memory))
    return Plan(tuple(made), free)


def _reason(load: ModelLoad, count: int, capacity: Capacity, slo: Slo) -> str:
    """One line: what it gets, what arrives, what that sustains."""
    gets = f"{count * load.slots} of {capacity.total} {capacity.unit}{'s' if capacity.total != 1 else ''}"
    if load.slots > 1:
        gets += f" ({count} × {load.slots}"
        gets += f": {load.size / 1e9:.1f} GB of weights)" if load.size is not None else ")"
    if load.rate <= 0:
        return f"{gets}: nothing arrives"
    profile = load.profile
    token_ms = profile.token_ms(_batch(profile, slo))
    arrives = f"{load.known} {load.rate:.3g} rps × {load.tokens:.3g} tokens, {token_ms:.3g} ms a token"
    have = headroom(load, count, slo)
    holds = f"sustains {have * load.rate:.3g} rps ({have:.2f} × the load) at {slo.text}"
    if have < 1:
        more = next((n for n in range(count + 1, 16 * count + 64) if headroom(load, n, slo) >= 1), None)
        holds += "; too little" if more is None else f"; {(more - count) * load.slots} more would hold it"
    return f"{gets}: {arrives}; {holds}"


def _too_little(sized: Sequence[ModelLoad], failed: ModelLoad, capacity: Capacity) -> str:
    needs = ", ".join(f"{load.name} {load.slots}" for load in sized)
    return (
        f"--auto-place: {failed.name} finds no room: one replica of each model takes {needs}, and free are "
        f"{capacity.total} {capacity.unit}s ({', '.join(map(str, capacity.bins)) or 'none'} on each bin); "
        "add capacity or serve fewer models"
    )
