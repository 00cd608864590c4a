"""What an engine's own process sees of the machine that it runs on, and what is said when that goes wrong: a
disk that is full, a clock that was set."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.process.notices import Notices

#: Ray itself refuses to spill from 95 % on; temporary files and logs fail when it is full.
FULL_SHARE = 0.02
FULL_BYTES = 64 << 20
#: A clock that was set, and not one that is slewed.
STEP_S = 2.0
_AT_ONCE_S, _TRIES = 0.1, 5


def machine_facts() -> dict[str, float]:
    """Of this process's machine: ``unix_s`` and ``monotonic_s``, its clocks read at once, and bytes free and
    in all where temporary files are (Ray's too, unless it was told another place)."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        disk = os.statvfs(_session_dir() or folder)
    except OSError:
        return _clocks()
    return {
        **_clocks(),
        "disk_free": float(disk.f_bavail * disk.f_frsize),
        "disk_total": float(disk.f_blocks * disk.f_frsize),
    }


def _clocks() -> dict[str, float]:
    """Both clocks. Read again where this process was suspended in between, which would look like a clock that
    was set."""
    for _ in range(_TRIES):
        before, unix_s, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < _AT_ONCE_S:
            break
    return {"unix_s": unix_s, "monotonic_s": after}


def _session_dir() -> str | None:
    """Where Ray keeps the logs and sockets of this process's node; None outside of Ray."""
    try:
        from ray._private.worker import _global_node
    except ImportError:
        return None
    return None if _global_node is None else str(_global_node.get_session_dir_path())


@dataclass
class _Machine:
    offset_s: float  # its wall clock against its monotonic one: answers that come late change nothing
    full: bool = False


class MachineWatch:
    """Says each change of a machine once."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._known: dict[str, _Machine] = {}

    def look(self, machines: Mapping[str, Mapping[str, Any]]) -> None:
        """``machines``: what :func:`machine_facts` said on each, by the node's name."""
        for name, facts in machines.items():
            unix_s, monotonic_s = facts.get("unix_s"), facts.get("monotonic_s")
            if isinstance(unix_s, int | float) and isinstance(monotonic_s, int | float):
                self._clock(name, float(unix_s) - monotonic_s)
            self._disk(name, facts.get("disk_free"), facts.get("disk_total"))

    def _clock(self, name: str, offset_s: float) -> None:
        known = self._known.setdefault(name, _Machine(offset_s))
        step = offset_s - known.offset_s
        known.offset_s = offset_s  # a slow drift is none
        if abs(step) >= STEP_S:
            self._notices.say(
                f"the clock of node {name} was set by {step:+.0f} s: times in its logs jump, no latency does",
                "warn",
            )

    def _disk(self, name: str, free: Any, total: Any) -> None:
        known = self._known.get(name)
        if (
            known is None
            or not isinstance(free, int | float)
            or not isinstance(total, int | float)
            or not total
        ):
            return
        full = free < min(FULL_BYTES, FULL_SHARE * total)
        if full and not known.full:
            self._notices.say(
                f"the disk of node {name} is full ({free / 2**20:.0f} of {total / 2**20:.0f} MiB free where "
                "Ray keeps its files): its engines serve on, new processes may not start; make room",
                "error",
            )
        elif known.full and free >= 2 * min(FULL_BYTES, FULL_SHARE * total):
            known.full = False
            self._notices.say(f"the disk of node {name} has room again")
        known.full = known.full or full
