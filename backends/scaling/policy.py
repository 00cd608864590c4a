"""How many replicas a model is to have: a pure function, which decides as Ray Serve 2.60 does.

Source: `replica_queue_length_autoscaling_policy` with `_apply_autoscaling_config` around it
(`ray/serve/autoscaling_policy.py`) and the bounds of `DeploymentAutoscalingState` (`_private/
autoscaling_state.py`). The tests hold both side by side on random loads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backends.settings.autoscale import Autoscale

# Of Ray: the difference of two large times may be this much less than it is.
_EPS_S = 1e-6


@dataclass(frozen=True)
class Waited:
    """What a decision leaves for the next one. ``direction``: +1 while more replicas are wanted, -1 while
    fewer are, ``since_s`` when that began (None: neither)."""

    direction: int = 0
    since_s: float | None = None


@dataclass(frozen=True)
class Seen:
    """A model at one moment. ``requests`` are those in its replicas and before them, over the look-back;
    ``running`` replicas answer, ``target`` are wanted so far. ``desired`` are further demands, each in
    replicas (of ``--autoscale-on`` and of a pattern); the largest of all counts."""

    now_s: float
    requests: float
    running: int
    target: int
    desired: Sequence[float] = ()


def decide(scale: Autoscale, target_requests: float, seen: Seen, waited: Waited) -> tuple[int, Waited]:
    """The replicas that are wanted from now on. ``target_requests``: what a replica is to hold."""
    wanted, waited = _unbounded(scale, target_requests, seen, waited)
    return scale.bounded(wanted), waited


def _unbounded(scale: Autoscale, target_requests: float, seen: Seen, waited: Waited) -> tuple[int, Waited]:
    if seen.running == 0 and seen.requests > 0:  # a cold start waits for nothing
        return max(math.ceil(scale.upscaling_factor), seen.target), waited
    by_requests = float(seen.target) if seen.running == 0 else _by_requests(seen, target_requests)
    desired = max([by_requests, *seen.desired])
    scaled = with_factors(scale, desired, seen.running)
    if seen.running == 0 and scaled > 0:
        return scaled, waited
    return _after_delay(scale, max(0, scaled), seen, waited)


def _by_requests(seen: Seen, target_requests: float) -> float:
    """In the order of Ray's own operations, so that both round alike."""
    return seen.running * (seen.requests / (target_requests * seen.running))


def with_factors(scale: Autoscale, desired: float, running: int) -> int:
    """``desired`` replicas, as near as one step goes from those that run."""
    if running == 0:
        return math.ceil(desired)
    more = desired - running
    factor = scale.upscaling_factor if more > 0 else scale.downscaling_factor
    scaled = math.ceil(running + factor * more)
    if math.ceil(desired) < running and scaled == running:  # else a small factor would never get there
        scaled -= 1
    return scaled


def _after_delay(scale: Autoscale, desired: int, seen: Seen, waited: Waited) -> tuple[int, Waited]:
    """A change is made once it was wanted without a break for its delay."""
    if desired == seen.target:
        return seen.target, Waited()
    direction = 1 if desired > seen.target else -1
    if direction > 0:
        delay_s = scale.upscale_delay_s
    elif seen.target == 1 and scale.downscale_to_zero_delay_s is not None:
        delay_s = scale.downscale_to_zero_delay_s
    else:
        delay_s = scale.downscale_delay_s
    if direction < 0 and seen.target != 1:  # to none at all only from one
        desired = max(1, desired)
    began_s = waited.since_s if waited.direction == direction and waited.since_s is not None else seen.now_s
    if seen.now_s - began_s + _EPS_S >= delay_s:
        return desired, Waited()
    return seen.target, replace(waited, direction=direction, since_s=began_s)
