"""What runs below this process, by walking /proc: tests look for what was left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int | None = None) -> dict[int, str]:
    """pid -> command line of every living descendant of ``pid`` (this process by default)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found, below = {}, {os.getpid() if pid is None else pid}
    while below:
        below = {child for child, parent in parents.items() if parent in below and child not in found}
        found |= {child: command(child) for child in below}
    return found


def command(pid: int) -> str:
    """The command line of a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what: Callable[[], object], why: str, limit_s: float = 240.0) -> None:
    """Waits until ``what()`` is true; the limit is far beyond what it can take. Raises AssertionError."""
    until = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until, f"waited {limit_s:g} s for {why}"
        time.sleep(0.02)
