"""Places for engines in a Ray cluster: placement groups, reserved and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from backends.cluster.calls import as_start_failure, within
from backends.cluster.cluster import ResourceShare

PLACEMENT_LIMIT_S = 300.0


async def reserve(
    bundles: Sequence[Mapping[str, float]], strategy: str = "PACK", limit_s: float = PLACEMENT_LIMIT_S
) -> Any:
    """A placement group whose bundles are all reserved. Raises StartFailure when the cluster has no room for
    them within ``limit_s``; then, and when cancelled, nothing is left of it."""
    from ray.util import placement_group

    with as_start_failure("placement"):
        group = await asyncio.to_thread(
            placement_group, [dict(bundle) for bundle in bundles], strategy=strategy
        )
        try:
            async with within(limit_s, f"no node has {amounts(bundles[0])} free"):
                await group.ready()
        except BaseException:
            await free(group)
            raise
    return group


async def free(group: Any) -> None:
    """Gives a placement group back; what still runs in it is ended by Ray."""
    from ray.util import remove_placement_group

    await asyncio.to_thread(remove_placement_group, group)


def bundle_of(share: ResourceShare) -> dict[str, float]:
    """What one engine reserves."""
    given = {"CPU": share.num_cpus, share.resource: share.num_gpus, **dict(share.further)}
    return {name: amount for name, amount in given.items() if amount}


def amounts(bundle: Mapping[str, float]) -> str:
    """``1 CPU and 0.5 GPU``."""
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def actor_options(share: ResourceShare, group: Any, bundle: int) -> dict[str, Any]:
    """Ray's options of an actor in one bundle of a group."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return {
        **share.options,
        "max_restarts": 0,  # we replace it ourselves, and know when
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=bundle, placement_group_capture_child_tasks=True
        ),
    }
