"""rvc's decisions beside those of Ray Serve, on random loads; and what each field changes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from backends.scaling.policy import Seen, Waited, decide
from backends.scaling.window import Window
from backends.settings.autoscale import Autoscale, parse

TRACES = 1000
STEPS = 60


class Clock:
    """In place of Ray's module `time`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from ray.serve import autoscaling_policy

    clock = Clock()
    monkeypatch.setattr(autoscaling_policy, "time", clock)
    return clock


class Theirs:
    """Ray's policy as its controller calls it, with its bounds."""

    def __init__(self, scale: Autoscale) -> None:
        from ray.serve.autoscaling_policy import (
            _apply_autoscaling_config,
            replica_queue_length_autoscaling_policy,
        )
        from ray.serve.config import AutoscalingConfig

        from backends.serve.deployment import autoscaling_config

        self._policy = _apply_autoscaling_config(replica_queue_length_autoscaling_policy)
        self._config = AutoscalingConfig(**autoscaling_config(scale, 2))
        self._state: dict[str, Any] = {}

    def decide(self, requests: float, running: int, target: int) -> int:
        from ray.serve.config import AutoscalingContext

        context = AutoscalingContext(
            deployment_id=None,
            deployment_name="",
            app_name="",
            current_num_replicas=running,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=requests,
            total_queued_requests=None,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=dict(self._state),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=None,
            config=self._config,
        )
        wanted, self._state = self._policy(context)
        return int(max(self._config.min_replicas, min(self._config.max_replicas, wanted)))


def random_scale(rng: random.Random) -> Autoscale:
    low, high = rng.randint(0, 2), rng.randint(2, 8)
    return Autoscale(
        low,
        high,
        target_ongoing_requests=rng.choice([0.5, 1.0, 2.0, 4.0, 7.3]),
        upscale_delay_s=rng.choice([0.0, 1.0, 3.0]),
        downscale_delay_s=rng.choice([0.0, 2.0, 6.0]),
        downscale_to_zero_delay_s=rng.choice([None, 0.0, 4.0]),
        upscaling_factor=rng.choice([0.3, 1.0, 1.7]),
        downscaling_factor=rng.choice([0.2, 0.5, 1.0]),
        look_back_period_s=30.0,
    )


def test_decides_as_ray_does(clock: Clock) -> None:
    changes = 0
    for seed in range(TRACES):
        rng = random.Random(seed)
        scale = random_scale(rng)
        theirs, waited = Theirs(scale), Waited()
        running = target = scale.bounded(rng.randint(0, scale.max_replicas))
        requests, step_s = rng.uniform(0, 20), rng.choice([0.1, 0.5, 1.0])
        for step in range(STEPS):
            clock.now += step_s
            if rng.random() < 0.15:  # a spike, or none at all
                requests = rng.choice([0.0, rng.uniform(0, 60)])
            requests = max(0.0, requests + rng.gauss(0, 0.5)) if requests else 0.0
            each = scale.target_ongoing_requests
            assert each is not None
            wanted, waited = decide(scale, each, Seen(clock.now, requests, running, target), waited)
            assert wanted == theirs.decide(requests, running, target), (seed, step, scale, requests)
            changes += wanted != target
            target = wanted
            if rng.random() < 0.4:  # replicas take time to start
                running += (target > running) - (target < running)
    assert changes > TRACES  # the traces asked for something


def course(scale: Autoscale, load: list[float], each: float = 2.0) -> list[int]:
    """Replicas wanted each second; those wanted run a second later."""
    target, waited, out = scale.first, Waited(), []
    window = Window(scale.look_back_period_s, scale.aggregation_function)
    for second, requests in enumerate(load):
        window.add(float(second), requests)
        running = target
        seen = Seen(float(second), window.value(float(second)), running, target)
        target, waited = decide(scale, scale.target_ongoing_requests or each, seen, waited)
        out.append(target)
    return out


BASE = "min=1,max=8,target=2,up=2,down=4,look_back=0.5"
LOAD = [0.0] * 5 + [12.0] * 20 + [0.0] * 20


@pytest.mark.parametrize(
    "change",
    [
        *("min=2", "max=3", "initial=4", "target=4", "up=6", "down=10", "up_factor=0.4"),
        *("down_factor=0.3", "look_back=8"),
    ],
)
def test_each_field_changes_the_course(change: str) -> None:
    name = change.partition("=")[0]
    kept = ",".join(part for part in BASE.split(",") if part.partition("=")[0] != name)
    base = course(parse(BASE), LOAD)
    assert max(base) == 6
    assert base[-1] == 1
    assert course(parse(f"{kept},{change}"), LOAD) != base


def test_the_way_to_none_and_back() -> None:
    scale = parse("min=0,max=3,target=2,up=5,down=2,down_to_zero=6,look_back=0.5")
    found = course(replace(scale, initial_replicas=2), [2.0] * 8 + [0.0] * 12 + [5.0] * 3)
    assert found[7] == 1
    assert found[9 + 5] == 1
    assert found[9 + 6] == 0  # only after its own delay
    assert found[20] == 1  # a cold start waits for nothing


def test_further_demands_count_when_they_are_larger() -> None:
    scale = Autoscale(1, 8, upscale_delay_s=0.0)
    assert decide(scale, 2.0, Seen(0.0, 2.0, 2, 2, desired=[3.2]), Waited())[0] == 4
    assert decide(scale, 2.0, Seen(0.0, 12.0, 2, 2, desired=[3.2]), Waited())[0] == 6


@pytest.mark.parametrize(("how", "value"), [("mean", 5.5), ("max", 8.0), ("min", 4.0)])
def test_the_window_weights_by_time(how: str, value: float) -> None:
    window = Window(4.0, how)
    for at, requests in ((0.0, 100.0), (1.0, 4.0), (4.5, 8.0)):
        window.add(at, requests)
    assert window.value(6.0) == pytest.approx(value)
