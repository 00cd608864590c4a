"""What arrives for each model, as the router and the engines count it; and when that calls for another plan.
Pure: the clock is the caller's.

Arrivals are counted at the router, also those that engines refuse. How long requests hold a place comes from
the engines' histograms of requests that ended.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from backends.cluster.placement_plan import Capacity, ModelLoad, Plan, Profile, Slo, fixed, plan
from backends.scaling.figures import samples

# Rates are means over the long window, or over the short one where that differs from the long one by more
# than Poisson noise does once in a few hundred looks.
LONG_S = 30.0
SHORT_S = 4.0
_SURPRISE = 3.0  # standard deviations
# So many requests must have ended for a mean to replace the one before.
_LEAST_ENDED = 8
# Replicas move where the poorest model has no headroom, and the move gives it GAIN times as much: a move
# costs the start of an engine. That must hold for as long as the short window is, so that the rates which
# the new plan is made of have nothing of the mix before.
GAIN = 1.15
# What waits is to be served within so long, beside what arrives.
CATCH_UP_S = 30.0


@dataclass(frozen=True)
class Ended:
    """Sums over requests that ended, in seconds; ``several`` are those of more than one token."""

    count: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    several: float = 0.0
    tpot_s: float = 0.0

    def since(self, before: Ended) -> Ended:
        """What came on top of ``before``; all of it where the counters began anew."""
        if self.count < before.count:
            return self
        return Ended(*(mine - old for mine, old in zip(_values(self), _values(before), strict=True)))

    def plus(self, other: Ended) -> Ended:
        return Ended(*(mine + more for mine, more in zip(_values(self), _values(other), strict=True)))


def _values(ended: Ended) -> tuple[float, ...]:
    return ended.count, ended.prefill_s, ended.decode_s, ended.several, ended.tpot_s


def ended_of(page: str) -> Ended:
    """The sums of one engine's page of metrics."""
    found: dict[str, float] = {}
    for name, _, value in samples(page):
        prefix, _, figure = name.partition(":")
        if prefix in ("vllm", "rvtop"):
            found[figure] = found.get(figure, 0.0) + value
    prefill, decode = "request_prefill_time_seconds", "request_decode_time_seconds"
    tpot = "request_time_per_output_token_seconds"
    return Ended(
        found.get(f"{prefill}_count", 0.0),
        found.get(f"{prefill}_sum", 0.0),
        found.get(f"{decode}_sum", 0.0),
        found.get(f"{tpot}_count", 0.0),
        found.get(f"{tpot}_sum", 0.0),
    )


@dataclass(frozen=True)
class Look:
    """One look: ``arrived`` requests of each model, as the router counts them since its start; what each
    engine says: (model, its sums); and the requests of each model that are in engines now, ``held``."""

    t_s: float
    arrived: Mapping[str, int]
    engines: Mapping[str, tuple[str, Ended]] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)


class Mix:
    """``loads`` are what is taken of the models until they are measured."""

    def __init__(self, loads: Sequence[ModelLoad]) -> None:
        self._loads = {load.name: load for load in loads}
        self._arrived: deque[tuple[float, Mapping[str, int]]] = deque()
        self._engines: dict[str, Ended] = {}
        self._ended: dict[str, Ended] = {}  # of each model since its profile was last made
        self._ended_since: dict[str, float] = {}
        self._steps: dict[str, dict[float, float]] = {}  # of each model: batch -> ms a token
        self._waiting: dict[str, int] = {}
        self._shifted_s: float | None = None  # since when rates are surprising

    def look(self, look: Look, replicas: Mapping[str, int]) -> None:
        """``replicas`` of each model shared the work since the look before."""
        if self._arrived and any(
            look.arrived.get(name, 0) < count for name, count in self._arrived[-1][1].items()
        ):
            self._arrived.clear()  # the router began anew
        self._arrived.append((look.t_s, dict(look.arrived)))
        self.forget(look.t_s - LONG_S)
        self._watch_shift(look.t_s)
        for engine, (model, ended) in look.engines.items():
            grown = ended.since(self._engines.get(engine, Ended()))
            self._engines[engine] = ended
            if model in self._loads:
                self._ended[model] = self._ended.get(model, Ended()).plus(grown)
                self._ended_since.setdefault(model, look.t_s)
        for name, load in self._loads.items():
            count = replicas.get(name, 1)
            self._waiting[name] = max(0, look.held.get(name, 0) - count * load.profile.places)
            self._loads[name] = self._profiled(load, look.t_s, count)

    def know_places(self, model: str, places: int) -> None:
        load = self._loads[model]
        self._loads[model] = replace(load, profile=replace(load.profile, places=places))

    @property
    def ready(self) -> bool:
        """Whether the short window is full."""
        return len(self._arrived) > 1 and self._arrived[-1][0] - self._arrived[0][0] >= SHORT_S

    def forget(self, before_s: float) -> None:
        """Arrivals before that are of another mix."""
        while len(self._arrived) > 2 and self._arrived[1][0] <= before_s:
            self._arrived.popleft()

    def loads(self) -> list[ModelLoad]:
        """What arrives now, and what waits; what was taken until then while nothing has arrived."""
        return [self._rated(load) for load in self._loads.values()]

    def _rated(self, load: ModelLoad) -> ModelLoad:
        if not self.ready or not any(self._arrived[-1][1].values()):
            return load
        rate, recent = self._rates(load.name)
        rate = recent if self._surprising(rate, recent) else rate
        return replace(load, rate=rate + self._waiting[load.name] / CATCH_UP_S, known="measured")

    def _rates(self, model: str) -> tuple[float, float]:
        """Requests a second in the long window and in the short one."""
        now, latest = self._arrived[-1]
        before = [entry for entry in self._arrived if entry[0] <= now - SHORT_S]
        counted = latest.get(model, 0)
        (first, whole), (late, short) = self._arrived[0], before[-1]
        return (
            (counted - whole.get(model, 0)) / (now - first),
            (counted - short.get(model, 0)) / (now - late),
        )

    def _surprising(self, rate: float, recent: float) -> bool:
        """Whether so many in the short window are no chance at that rate."""
        expected = rate * SHORT_S
        return abs(recent * SHORT_S - expected) > _SURPRISE * math.sqrt(expected + 1.0)

    def _watch_shift(self, now: float) -> None:
        """The long window begins anew once another mix has filled the short one."""
        shifted = self.ready and any(self._surprising(*self._rates(name)) for name in self._loads)
        if not shifted:
            self._shifted_s = None
        elif self._shifted_s is None:
            self._shifted_s = now
        elif now - self._shifted_s >= SHORT_S - 1.0:
            self.forget(now - SHORT_S)
            self._shifted_s = None

    def _profiled(self, load: ModelLoad, now: float, replicas: int) -> ModelLoad:
        """With the means of the requests that ended since the last time, where they are enough."""
        ended = self._ended.get(load.name, Ended())
        lasted = now - self._ended_since.get(load.name, now)
        if ended.count < _LEAST_ENDED or ended.several < 1 or lasted <= 0:
            return load
        self._ended[load.name], self._ended_since[load.name] = Ended(), now
        token_ms = 1e3 * ended.tpot_s / ended.several
        if token_ms <= 0:
            return load
        prefill_ms, decode_ms = 1e3 * ended.prefill_s / ended.count, 1e3 * ended.decode_s / ended.count
        batch = (ended.prefill_s + ended.decode_s) / lasted / max(1, replicas)  # by Little's law
        base, each = self._line(load.name, max(1.0, min(batch, load.profile.places)), token_ms)
        profile = Profile(load.profile.places, base, each, prefill_ms)
        return replace(load, tokens=1.0 + decode_ms / token_ms, profile=profile)

    def _line(self, model: str, batch: float, token_ms: float) -> tuple[float, float]:
        """Base and slope of a step's time, through the smallest and the largest batch seen; flat until they
        are well apart."""
        steps = self._steps.setdefault(model, {})
        steps[batch] = token_ms
        low, high = min(steps), max(steps)
        self._steps[model] = {low: steps[low], high: steps[high]}
        if high < 2 * low or steps[high] <= steps[low]:
            return token_ms, 0.0
        each = (steps[high] - steps[low]) / (high - low)
        return max(0.0, steps[low] - each * low), each


class Replanner:
    """Says when replicas shall move. ``plan`` is the one in force. Where replicas grow instead of becoming
    more, it stays as it began."""

    def __init__(self, loads: Sequence[ModelLoad], capacity: Capacity, slo: Slo) -> None:
        self._capacity = capacity
        self._slo = slo
        self._since: float | None = None  # when it was first seen that another plan is better
        self.plan = plan(loads, capacity, slo)
        if capacity.grows:
            sizes = {assigned.model: assigned.slots for assigned in self.plan.models}
            loads = [replace(load, slots=sizes[load.name]) for load in loads]
        self._mix = Mix(loads)

    def know_places(self, model: str, places: int) -> None:
        """What an engine of the model computes at once, as it says itself."""
        self._mix.know_places(model, places)

    def look(self, look: Look, *, at_rest: bool = True) -> Plan | None:
        """Takes a look; a plan that shall take the place of the one in force, which it then is. While
        replicas still move (``at_rest`` is False) there is none."""
        counts = self.plan.replicas
        self._mix.look(look, counts)
        if not self._mix.ready:
            return None
        loads = self._mix.loads()
        self.plan = now = fixed(loads, counts, self._capacity, self._slo)  # as it is, with today's reasons
        if self._capacity.grows:  # a model's only replica can't move without a gap
            return None
        best = plan(loads, self._capacity, self._slo)
        enough = now.headroom >= 1 or best.headroom < GAIN * now.headroom or best.replicas == counts
        if enough or not at_rest:
            self._since = None
            return None
        self._since = look.t_s if self._since is None else self._since
        if look.t_s - self._since < SHORT_S:
            return None
        self._since = None
        self._mix.forget(look.t_s - SHORT_S)
        self.plan = best
        return best
