"""What Ray holds for engines of several GPUs, on a cluster that says it has five and has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_ray_reserves_tensor_times_pipeline_gpus() -> None:
    command = [sys.executable, "-m", "tests.backends.test_rvc_reserves"]
    seen = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1,2,3,4"}  # Ray believes it, and looks for none
    made = subprocess.run(command, env=seen, capture_output=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr.decode()[-3000:]
    found = json.loads(made.stdout.splitlines()[-1])
    assert found["step"] == "1 × 1 CPU and 4 GPU, PACK"
    assert (found["before"], found["held"], found["after"]) == (5, 1, 5)
    assert found["refused"] == (
        "--tensor-parallel 3 --pipeline-parallel 2: an engine's 6 GPUs must be of one node, and 5 are free "
        "on the best"
    )


async def _reserved() -> dict[str, Any]:
    """Reserves for one engine of 2 × 2 GPUs and lets go again; then asks for one of 3 × 2."""
    import ray

    from backends.cluster.cluster import list_nodes
    from backends.cluster.vllm_shares import shares_of
    from backends.errors import UsageError
    from backends.process.events import Steps
    from backends.rvc import _place
    from backends.settings.vllm import VllmOptions

    def options(tensor: int, pipeline: int) -> Any:
        asked = VllmOptions(tensor_parallel=tensor, pipeline_parallel=pipeline)
        model = SimpleNamespace(name="m")
        return SimpleNamespace(vllm=asked, models=(model,), threads=None, num_replicas=None)

    def gpus() -> float:
        return float(ray.available_resources().get("GPU", 0.0))

    events: list[dict[str, Any]] = []
    found: dict[str, Any] = {"before": gpus()}
    steps = Steps(lambda event, **fields: events.append(fields))
    asked = options(2, 2)
    async with AsyncExitStack() as stack:
        await _place(shares_of(asked, await list_nodes()), asked, steps, stack)
        found["held"] = await _until(gpus, 1)
    found["after"] = await _until(gpus, 5)
    found["step"] = events[0]["detail"]
    try:
        shares_of(options(3, 2), await list_nodes())
    except UsageError as error:
        found["refused"] = str(error)
    return found


async def _until(amount: Any, wanted: float) -> float:
    """Ray's head hears of what its nodes hold with a delay."""
    import asyncio

    for _ in range(600):
        if amount() == wanted:
            break
        await asyncio.sleep(0.1)
    return float(amount())


if __name__ == "__main__":
    import asyncio

    import ray

    ray.init(num_cpus=2, num_gpus=5, include_dashboard=False, log_to_driver=False)
    try:
        print(json.dumps(asyncio.run(_reserved())))
    finally:
        ray.shutdown()
