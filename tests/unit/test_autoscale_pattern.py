"""A load that repeats itself, in virtual time: the second pass has its replicas before the ramp."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from backends.scaling.demand import Demand
from backends.scaling.pattern import Pattern
from backends.scaling.policy import Seen, Waited, decide
from backends.scaling.window import Window
from backends.settings.autoscale import Autoscale, parse

LENGTH_S, RAMP_S, LOW_RPS, HIGH_RPS = 300, 120, 1.0, 7.0
STEP_S = 0.5
START_S = 20.0  # of a replica, until it answers
SERVICE_S, PLACES = 1.0, 2  # of an answer; of those at once in a replica
AHEAD_S = 45.0


def arrivals(seed: int) -> list[float]:
    """One pass: few requests, many from RAMP_S on for a third of it, few again."""
    rng, at, found = random.Random(seed), 0.0, []
    while at < LENGTH_S:
        rate = HIGH_RPS if RAMP_S <= at < RAMP_S + LENGTH_S / 3 else LOW_RPS
        at += rng.expovariate(rate)
        found.append(at)
    return found[:-1]


@dataclass
class Server:
    """Replicas with PLACES each; a request waits for a place, and its first token comes with it."""

    free_s: list[float] = field(default_factory=lambda: [0.0] * PLACES)  # when each place is free
    starting: list[float] = field(default_factory=list)  # when each replica that starts will answer
    waiting: list[float] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)

    @property
    def running(self) -> int:
        return len(self.free_s) // PLACES

    def until(self, now_s: float) -> None:
        """Answers what can be by then."""
        for ready_s in [at for at in self.starting if at <= now_s]:
            self.starting.remove(ready_s)
            self.free_s += [ready_s] * PLACES
        while self.waiting:
            place = min(range(len(self.free_s)), key=lambda n: self.free_s[n])
            begin_s = max(self.free_s[place], self.waiting[0])
            if begin_s > now_s:
                break
            self.free_s[place] = begin_s + SERVICE_S
            self.ttft_s.append(begin_s - self.waiting.pop(0))

    def held(self, now_s: float) -> int:
        return len(self.waiting) + sum(free > now_s for free in self.free_s)

    def scale(self, target: int, now_s: float) -> None:
        for _ in range(target - self.running - len(self.starting)):
            self.starting.append(now_s + START_S)
        while self.running + len(self.starting) > target:
            if self.starting:
                self.starting.pop()
            else:  # drained: its places end what they have
                self.free_s.sort()
                del self.free_s[:PLACES]


def passes(scale: Autoscale, count: int) -> list[tuple[float, float]]:
    """Of each pass: when it first wanted the most replicas, from its ramp on (s), and its p99 TTFT (s)."""
    server, demand, waited, target = Server(), Demand(scale, "m"), Waited(), scale.first
    window, found = Window(scale.look_back_period_s), []
    each = scale.target_ongoing_requests
    assert each is not None
    for number in range(count):
        coming = [number * LENGTH_S + at for at in arrivals(17)]
        scaled_s, server.ttft_s = math.inf, []
        for step in range(int(LENGTH_S / STEP_S)):
            now_s = number * LENGTH_S + step * STEP_S
            while coming and coming[0] <= now_s:
                server.waiting.append(coming.pop(0))
            server.until(now_s)
            held, running = server.held(now_s), server.running
            window.add(now_s, held)
            desired = demand.desired(now_s, held, running, each)
            seen = Seen(now_s, window.value(now_s), running, target, desired)
            target, waited = decide(scale, each, seen, waited)
            server.scale(target, now_s)
            # The first rise from the few replicas of the calm part to those of the ramp.
            if step * STEP_S > RAMP_S - 2 * AHEAD_S and target >= 4:
                scaled_s = min(scaled_s, step * STEP_S - RAMP_S)
        times = sorted(server.ttft_s)
        found.append((scaled_s, times[int(0.99 * len(times))]))
    return found


SCALE = "min=1,max=5,target=2,up=2,down=20,look_back=4"


def test_the_second_pass_scales_before_the_ramp_and_waits_less() -> None:
    scale = parse(SCALE)
    (first, second) = passes(Autoscale(**{**vars(scale), "pattern_s": LENGTH_S, "ahead_s": AHEAD_S}), 2)
    assert first[0] > 0  # it can't know
    assert second[0] <= -10
    assert second[1] <= 0.7 * first[1]


def test_without_a_pattern_the_second_pass_is_like_the_first() -> None:
    first, second = passes(parse(SCALE), 2)
    assert second[0] > 0
    assert second[1] > 0.7 * first[1]


def test_what_a_pattern_remembers() -> None:
    pattern = Pattern(10.0)
    assert pattern.most(0.0, 5.0) is None
    for second in range(10):
        pattern.learn(second, 8.0 if second == 6 else 1.0)
    pattern.learn(10.0, 1.0)
    assert pattern.most(10.0, 4.0) == 1.0
    assert pattern.most(12.0, 5.0) == 8.0
    for second in range(11, 21):  # half of it is of the newest pass
        pattern.learn(second, 2.0 if second == 16 else 1.0)
    assert pattern.most(22.0, 5.0) == 5.0
