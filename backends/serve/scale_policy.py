"""`--autoscale-on` and `--autoscale-pattern` for Ray Serve: a policy of ours in Serve's controller.

    head ──figures, each second──▶ Ray's key-value store ◀──read, each second── policy (in the controller)

The head knows the engines' pages; the controller only Serve's own figures. The policy's answer is the largest
demand; factors, delays and bounds stay Serve's.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backends import errors
from backends.scaling import counts, demand, figures, pattern
from backends.settings import autoscale, scale_rules

log = logging.getLogger("backends.serve.scale_policy")

# Figures that are older than this are of a head that is gone.
STALE_S = 10.0
_READ_S = 1.0
#: What a controller of someone's Serve may not have: it travels with the policy.
_CARRIED = (errors, counts, demand, figures, pattern, autoscale, scale_rules)


class ServePolicy:
    """What Serve's controller calls. ``key``: where the figures are; ``scale``: an Autoscale as a mapping."""

    def __init__(self, key: str, model: str, scale: Mapping[str, Any]) -> None:
        rules = tuple(scale_rules.Rule(**rule) for rule in scale["rules"])
        self._scale = autoscale.Autoscale(**{**scale, "rules": rules, "warned": ()})
        self._demand = demand.Demand(self._scale, model)
        self._key = key
        self._read_s = 0.0

    def __call__(self, ctx: Any) -> tuple[float, dict[str, Any]]:
        """Ray's AutoscalingContext -> replicas."""
        running, now_s = ctx.current_num_replicas, time.time()
        if running == 0:
            return ctx.target_num_replicas, {}
        if self._scale.rules and now_s - self._read_s >= _READ_S:
            self._read_s = now_s
            self._demand.tell(_figures(self._key, now_s))
        each = ctx.config.get_target_ongoing_requests()
        requests = ctx.total_num_requests
        desired = self._demand.desired(now_s, requests, running, each)
        return max([running * (requests / (each * running)), *desired]), {}


def config(key: str, model: str, scale: autoscale.Autoscale) -> dict[str, Any]:
    """The entry of an `autoscaling_config`; none where Serve's own policy is enough."""
    if not scale.rules and scale.pattern_s is None:
        return {}
    from ray.serve.config import AutoscalingPolicy

    given = {"key": key, "model": model, "scale": dataclasses.asdict(scale)}
    with _by_value():
        return {"policy": AutoscalingPolicy(policy_function=ServePolicy, policy_kwargs=given)}


def tell(key: str, found: Mapping[str, float]) -> None:
    """Hands a model's figures of now to its policy. Blocking."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key, json.dumps({"at": time.time(), "figures": dict(found)}).encode(), overwrite=True)


def _figures(key: str, now_s: float) -> dict[str, float]:
    from ray.experimental.internal_kv import _internal_kv_get

    held = _internal_kv_get(key)
    told: dict[str, Any] = json.loads(held) if held else {"at": 0.0, "figures": {}}
    found: dict[str, float] = told["figures"]
    return found if now_s - told["at"] < STALE_S else {}


@contextmanager
def _by_value() -> Iterator[None]:
    from ray import cloudpickle

    for module in _CARRIED:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in _CARRIED:
            cloudpickle.unregister_pickle_by_value(module)
