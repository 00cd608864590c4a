"""What a deployment of replicas is asked of Serve, the same for every engine in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.cluster.cluster import Node
from backends.errors import UsageError
from backends.settings.accelerators import reserved
from backends.settings.autoscale import Autoscale
from backends.settings.options import Options
from backends.settings.serve import GIB

_UNASKED = Autoscale()
# Of the reports that Serve decides by.
_RAYS_INTERVAL_S = 10.0
#: Of an `autoscaling_config`; what else there is in an Autoscale is not Ray's.
_FIELDS = (
    *("initial_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s"),
    *("downscale_to_zero_delay_s", "upscaling_factor", "downscaling_factor", "look_back_period_s"),
    *("aggregation_function", "metrics_interval_s"),
)


def deployment_config(
    options: Options, resources: Mapping[str, Any], ongoing: int, count: int
) -> dict[str, Any]:
    """``resources`` are what a replica reserves, as Ray's options. At most ``ongoing`` requests a replica,
    unless asked otherwise. ``count`` replicas, unless they follow the load."""
    asked = options.serve
    ongoing = asked.max_ongoing or ongoing
    if options.autoscale is None:
        scale: dict[str, Any] = {"num_replicas": count}
    else:
        scale = {"autoscaling_config": autoscaling_config(options.autoscale, ongoing)}
    return {
        "ray_actor_options": {**resources, **_memory(options)},
        "max_ongoing_requests": ongoing,
        "max_queued_requests": -1 if options.max_queue is None else options.max_queue,
        "health_check_period_s": asked.health_period_s,
        "health_check_timeout_s": asked.health_timeout_s,
        # Of a replica that is retired while we serve. (When all ends, `serve.end` does not wait so long.)
        "graceful_shutdown_timeout_s": asked.grace_s,
        "graceful_shutdown_wait_loop_s": asked.grace_poll_s,
        "logging_config": {"enable_access_log": False},
        **scale,
    }


def autoscaling_config(scale: Autoscale, ongoing: int) -> dict[str, Any]:
    """Ray's, with ``ongoing`` requests a replica as its target unless asked otherwise. Of what was not asked
    for, Ray's own defaults count. A look-back has to be longer than the interval of its samples."""
    config = {
        name: getattr(scale, name)
        for name in _FIELDS
        if getattr(scale, name) is not None and getattr(scale, name) != getattr(_UNASKED, name)
    }
    config |= {"min_replicas": scale.min_replicas, "max_replicas": scale.max_replicas}
    config.setdefault("target_ongoing_requests", ongoing)
    if scale.metrics_interval_s is None and scale.look_back_period_s < 2 * _RAYS_INTERVAL_S:
        config["metrics_interval_s"] = scale.look_back_period_s / 2
    return config


def placement_group(options: Options, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Of a replica that is one process: a group of one bundle, where a strategy was asked for; else none. Ray
    has no bundle of nothing: neither has a replica that reserves that."""
    bundle = {**reserved(resources), **_memory(options)}
    if options.serve.strategy is None or not bundle:
        return {}
    return {
        "placement_group_bundles": [bundle],
        "placement_group_strategy": options.serve.strategy,
    }


def check_memory(options: Options, nodes: Sequence[Node]) -> None:
    """Raises UsageError where no node could ever hold a replica: Serve would wait for one without end."""
    asked = options.serve.memory_gib
    known = [node.memory for node in nodes if node.memory is not None]
    if asked is not None and known and asked * GIB > max(known):
        raise UsageError(
            f"--serve-memory {asked:g}: Ray has {max(known) / GIB:.1f} GiB for replicas on its largest node; "
            "give less"
        )


def _memory(options: Options) -> dict[str, int]:
    """What a replica reserves of its node's memory, in bytes."""
    asked = options.serve.memory_gib
    return {} if asked is None else {"memory": int(asked * GIB)}
