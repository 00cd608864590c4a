"""Our policy in Serve's controller: it travels by value, and answers with the largest demand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from backends.serve import scale_policy
from backends.serve.scaling import key_of, scaled
from backends.settings.autoscale import Autoscale, parse
from backends.settings.scale_rules import Rule

ELSEWHERE = """
import sys
sys.modules["backends"] = None
from ray import cloudpickle
policy = cloudpickle.loads(bytes.fromhex(sys.stdin.readline()))
print(policy(**__import__("json").loads(sys.stdin.readline())).__class__.__name__)
"""


def config(scale: Autoscale) -> Any:
    return scale_policy.config("key", "m", scale)["policy"]


def context(requests: float, running: int = 2, target: float = 4.0) -> Any:
    return SimpleNamespace(
        current_num_replicas=running,
        target_num_replicas=running,
        total_num_requests=requests,
        config=SimpleNamespace(get_target_ongoing_requests=lambda: target),
    )


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """In place of Ray's key-value store."""
    from ray.experimental import internal_kv

    held: dict[str, bytes] = {}
    monkeypatch.setattr(internal_kv, "_internal_kv_get", held.get)
    monkeypatch.setattr(
        internal_kv, "_internal_kv_put", lambda key, value, overwrite: held.__setitem__(key, value)
    )
    return held


def test_serves_own_policy_is_enough_without_rules() -> None:
    assert scale_policy.config("key", "m", Autoscale(1, 2)) == {}
    app = SimpleNamespace(app="rvtop-1-0", name="m")
    given = {"autoscaling_config": {"min_replicas": 1}, "max_ongoing_requests": 3}
    assert scaled(given, app, Autoscale(1, 2)) == given  # type: ignore[arg-type]
    ours = scaled(given, app, Autoscale(1, 2, rules=(Rule("kv_usage", 0.8),)))  # type: ignore[arg-type]
    policy = ours["autoscaling_config"]["policy"]
    assert policy.policy_function == "backends.serve.scale_policy.ServePolicy"
    assert policy.policy_kwargs["key"] == key_of(app) == "rvtop-scale-rvtop-1-0"  # type: ignore[arg-type]


def test_the_largest_demand_counts(store: dict[str, bytes]) -> None:
    made = config(replace(parse("1:8"), rules=(Rule("kv_usage", 0.4),)))
    policy = made.get_policy()(**made.policy_kwargs)
    assert policy(context(12.0))[0] == 3.0  # nothing is told yet
    scale_policy.tell("key", {"kv_usage": 0.8})
    policy = made.get_policy()(**made.policy_kwargs)
    assert policy(context(12.0))[0] == 4.0
    assert policy(context(20.0))[0] == 5.0
    assert policy(context(0.0, running=0))[0] == 0


def test_figures_of_a_head_that_is_gone_count_no_more(store: dict[str, bytes]) -> None:
    made = config(replace(parse("1:8"), rules=(Rule("kv_usage", 0.4),)))
    old = {"at": time.time() - 2 * scale_policy.STALE_S, "figures": {"kv_usage": 0.8}}
    store["key"] = json.dumps(old).encode()
    assert made.get_policy()(**made.policy_kwargs)(context(2.0))[0] == 2.0  # as many as there are


def test_it_needs_nothing_of_ours_in_the_controller() -> None:
    made = config(replace(parse("min=1,max=8"), pattern_s=86400.0))
    given = f"{made.get_serialized_policy_def().hex()}\n{json.dumps(made.policy_kwargs)}\n"
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=given, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "ServePolicy", done.stderr[-2000:]
