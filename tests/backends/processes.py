"""Which processes and folders belong to a backend, and whether they are gone."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_FOLDER = re.compile(rb"/tmp/rvtop-(?:eng|ray|rtr|vls)-\w+")


@dataclass(frozen=True)
class Process:
    """A process; ``started`` tells it from a later one with its id."""

    pid: int
    parent: int
    name: str
    started: str

    @property
    def gone(self) -> bool:
        """Whether it is not there, or a zombie that nobody has reaped yet. While a thread of a killed process
        is still ending, the process is such a zombie already, and its sockets are still open."""
        now = _read(self.pid)
        if now is None or now[0].started != self.started:
            return True
        return now[1] == "Z" and len(_threads(self.pid)) <= 1


def family(pid: int) -> list[Process]:
    """A process and all below it."""
    found = [read[0] for name in os.listdir("/proc") if name.isdigit() and (read := _read(int(name)))]
    members = {pid}
    while True:
        more = {process.pid for process in found if process.parent in members} - members
        if not more:
            return [process for process in found if process.pid in members]
        members |= more


def named(pid: int, part: str) -> list[Process]:
    """Those of a family whose name contains ``part`` (the kernel keeps 15 characters)."""
    return [process for process in family(pid) if part in process.name]


def folders(processes: list[Process]) -> set[Path]:
    """Our temporary folders that their command lines and environments name."""
    found: set[bytes] = set()
    for process in processes:
        for what in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                found.update(_FOLDER.findall(Path(f"/proc/{process.pid}/{what}").read_bytes()))
    return {Path(os.fsdecode(folder)) for folder in found}


def wait_until_gone(processes: list[Process], paths: set[Path], limit_s: float) -> None:
    """Fails, naming them, if some are still there after ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    while True:
        left = (
            [process for process in processes if not process.gone],
            [path for path in paths if path.exists()],
        )
        if left == ([], []):
            return
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def _threads(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/task")
    return []


def _read(pid: int) -> tuple[Process, str] | None:
    """The process and its state."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    return Process(pid, int(fields[1]), head.partition("(")[2], fields[19]), fields[0]
