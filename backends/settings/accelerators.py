"""Accelerators by name: what Ray calls them as a resource, and which variable says what a process sees.

The names stand in one file, ``backends/accelerators.json``, which rvtop reads too; nothing else here knows of
any. A device's name is its platform's, which vLLM or torch says (``npu``, ``rocm``), and its number on the
node: ``npu:0``. Ray and torch are imported late.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

import backends

#: Ray's resource of most of them, and of a node that has none.
GPU = "GPU"
CPU = "cpu"


@cache
def table() -> dict[str, dict[str, Any]]:
    """``accelerators.json``: by the name of vLLM's platform, in the order in which one is chosen."""
    text = Path(backends.__file__).with_name("accelerators.json").read_text("utf-8")
    return {str(name): dict(entry) for name, entry in json.loads(text).items()}


@cache
def ray_resources() -> tuple[str, ...]:
    """Ray's resources that are accelerators: those of the table first, then what this Ray knows besides."""
    known = dict.fromkeys(str(entry["resource"]) for entry in table().values())
    try:
        from ray._private.accelerators import get_all_accelerator_resource_names
    except ImportError:  # no Ray, or one that keeps them elsewhere: the table's are enough
        return tuple(known)
    return tuple(known | dict.fromkeys(sorted(get_all_accelerator_resource_names())))


def resource_of(resources: Mapping[str, float]) -> str:
    """Which of a node's resources its accelerators are; ``GPU`` where it has none."""
    return next((name for name in ray_resources() if resources.get(name, 0) > 0), GPU)


def ray_options(num_cpus: float, amount: float, resource: str) -> dict[str, Any]:
    """Ray's options of a process that reserves ``amount`` accelerators of that resource."""
    if resource == GPU or not amount:
        return {"num_cpus": num_cpus, "num_gpus": amount}
    return {"num_cpus": num_cpus, "num_gpus": 0, "resources": {resource: amount}}


def reserved(options: Mapping[str, Any]) -> dict[str, float]:
    """What such options reserve, by resource."""
    amounts = {"CPU": options.get("num_cpus"), GPU: options.get("num_gpus"), **options.get("resources", {})}
    return {name: amount for name, amount in amounts.items() if amount}


def ray_ids(resource: str) -> tuple[str, ...]:
    """The accelerators that Ray gave this process, by the node's numbers."""
    import ray

    return tuple(ray.get_runtime_context().get_accelerator_ids().get(resource) or ())


def named(platform: str, ids: Sequence[str]) -> tuple[str, ...]:
    """The names of devices: ``npu:0``; that of the CPU where there are none."""
    return tuple(f"{platform}:{number}" for number in ids) or (CPU,)


def vllm_platform() -> str:
    """What vLLM's platform in this process calls its devices. Imports vLLM, which takes seconds."""
    from vllm.platforms import current_platform

    return str(current_platform.device_name)


def torch_platform() -> str | None:
    """The kind of torch's accelerator here, as a device's type; None: the CPU."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else str(found.type)


def torch_devices() -> int:
    """How many accelerators torch sees here."""
    import torch

    return torch.accelerator.device_count() if torch_platform() is not None else 0


def visible_variable(platform: str | None) -> str | None:
    """The variable that says which accelerators of a platform a process sees; None where none does."""
    entry = table().get(platform or "")
    return None if entry is None else str(entry["visible"])


def visible_accelerators() -> tuple[str | None, tuple[str, ...]]:
    """The accelerators that this process may use, as the variable that comes first names them; without such a
    variable a server cannot be told its own, and computes on the CPU."""
    variable = visible_variable(torch_platform())
    if variable is None:
        return None, ()
    given = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
    count = torch_devices()
    return variable, tuple(given[:count] or [str(number) for number in range(count)])


def any_here(environ: Mapping[str, str]) -> bool:
    """Whether this machine has the files of an accelerator that ``environ`` does not hide. For a process that
    must not import torch yet: that reads its settings on its import."""
    return any(
        glob(entry["files"]) and environ.get(entry["visible"]) not in ("", "-1")
        for entry in table().values()
        if "files" in entry
    )
