"""Replicas of several models behind a router that gives each request to the replica with the fewest: a
queueing model in virtual time, in which replicas move as a plan says. It knows nothing of how plans are
made."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backends.cluster.placement_mix import Ended, Look


def moves(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Models that a replica is taken from, and those that one is added to, one entry a replica."""

    def over(more: Mapping[str, int], less: Mapping[str, int]) -> Iterable[str]:
        return (name for name in more for _ in range(more[name] - less.get(name, 0)))

    return list(over(before, after)), list(over(after, before))


@dataclass(frozen=True)
class Engine:
    """A replica gives a token to each of ``places`` requests every ``token_ms``."""

    places: int
    token_ms: float
    tokens: int


@dataclass
class _Replica:
    name: str
    model: str
    running: int = 0
    waiting: deque[float] = field(default_factory=deque)
    draining: bool = False
    ended: Ended = field(default_factory=Ended)

    @property
    def held(self) -> int:
        return self.running + len(self.waiting)


@dataclass(frozen=True)
class Done:
    """A request: its model, when it arrived and when its first token came, in seconds."""

    model: str
    arrived: float
    first: float


class World:
    """``phases`` are (seconds, requests a second of each model). ``decide`` is asked each second for the
    replicas that there shall be from now on, None: as they are; it is told whether none moves. One that moves
    is drained first, and its successor takes ``start_s`` to come up."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        replicas: Mapping[str, int],
        phases: Sequence[tuple[float, Mapping[str, float]]],
        decide: Callable[[Look, bool], Mapping[str, int] | None] = lambda look, at_rest: None,
        *,
        start_s: float = 8.0,
        seed: int = 7,
    ) -> None:
        self._engines = engines
        self._counts = dict(replicas)
        self._phases = phases
        self._decide = decide
        self._start_s = start_s
        self._random = random.Random(seed)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._replicas: list[_Replica] = []
        self._pending: deque[str] = deque()  # models whose new replica waits for a free place
        self._moving = 0
        self.arrived = dict.fromkeys(engines, 0)
        self.done: list[Done] = []
        self.moved: list[float] = []  # when
        for model, count in replicas.items():
            for _ in range(count):
                self._add(model)

    def run(self) -> list[Done]:
        end = 0.0
        for seconds, rates in self._phases:
            for model, rate in rates.items():
                t = end
                while rate and (t := t + self._random.expovariate(rate)) < end + seconds:
                    self._at(t, lambda model=model: self._arrive(model))
            end += seconds
        for second in range(1, round(end) + 1):
            self._at(float(second), self._look)
        while self._events:
            self._now, _, act = heapq.heappop(self._events)
            act()
        return self.done

    @property
    def held(self) -> int:
        """Requests that are in replicas."""
        return sum(replica.held for replica in self._replicas)

    def _held(self) -> dict[str, int]:
        held = dict.fromkeys(self._engines, 0)
        for replica in self._replicas:
            held[replica.model] += replica.held
        return held

    def _at(self, t: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (t, self._number, act))

    def _add(self, model: str) -> None:
        self._number += 1
        self._replicas.append(_Replica(f"{model}-{self._number}", model))

    def _arrive(self, model: str) -> None:
        self.arrived[model] += 1
        there = [r for r in self._replicas if r.model == model and not r.draining]
        least = min(there, key=lambda replica: replica.held)
        least.waiting.append(self._now)
        self._begin(least)

    def _begin(self, replica: _Replica) -> None:
        engine = self._engines[replica.model]
        while replica.waiting and replica.running < engine.places:
            arrived, step_s = replica.waiting.popleft(), engine.token_ms / 1e3
            replica.running += 1
            self.done.append(Done(replica.model, arrived, self._now + step_s))
            self._at(self._now + engine.tokens * step_s, lambda replica=replica: self._end(replica))

    def _end(self, replica: _Replica) -> None:
        engine = self._engines[replica.model]
        step_s = engine.token_ms / 1e3
        decode_s = (engine.tokens - 1) * step_s
        replica.ended = replica.ended.plus(Ended(1.0, step_s, decode_s, 1.0, step_s))
        replica.running -= 1
        self._begin(replica)
        self._emptied(replica)

    def _emptied(self, replica: _Replica) -> None:
        """A retired replica that is empty makes room for another."""
        if replica.draining and not replica.held and replica in self._replicas:
            self._replicas.remove(replica)
            model = self._pending.popleft()
            self._at(self._now + self._start_s, lambda: self._came_up(model))

    def _came_up(self, model: str) -> None:
        self._add(model)
        self._moving -= 1

    def _look(self) -> None:
        engines = {r.name: (r.model, r.ended) for r in self._replicas}
        look = Look(self._now, dict(self.arrived), engines, self._held())
        wanted = self._decide(look, not self._moving)
        if wanted is None:
            return
        retired, added = moves(self._counts, wanted)
        self._counts = dict(wanted)
        self.moved.append(self._now)
        self._pending.extend(added)
        self._moving += len(added)
        for model in retired:
            last = next(r for r in reversed(self._replicas) if r.model == model and not r.draining)
            last.draining = True
            self._emptied(last)
