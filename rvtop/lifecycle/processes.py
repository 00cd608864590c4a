"""Processes by more than their number: a pid is used again, a pid with its start time is not. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: In the environment of a deployment's processes: which deployment they belong to.
MARK_ENV = "RVTOP_DEPLOYMENT"
_POLL_S = 0.1


@dataclass(frozen=True)
class Process:
    """One process, for ever. ``start_ticks`` counts from the boot called ``boot_id``."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True)
class _Stat:
    state: str
    group: int
    session: int
    start_ticks: int


def process(pid: int) -> Process | None:
    """The process that has this number now; None if there is none (a zombie is none)."""
    stat = _stat(pid)
    return None if stat is None or stat.state == "Z" else Process(pid, stat.start_ticks, _boot_id())


def alive(wanted: Process | None) -> bool:
    """Whether it runs still."""
    return wanted is not None and process(wanted.pid) == wanted


def send(wanted: Process | None, number: signal.Signals) -> bool:
    """Signals it, and never another one that got its number. False when it is gone."""
    if wanted is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(wanted.pid)
        try:
            if alive(wanted):  # looked at while we hold it, so it can't become another one meanwhile
                signal.pidfd_send_signal(handle, number)
                return True
        finally:
            os.close(handle)
    return False


def members(mark: str, backend: Process | None = None) -> list[Process]:
    """What runs of a deployment: processes that carry its ``mark``, and those of the backend's group and
    session (some rename themselves, which overwrites what they carry). This process is never one."""
    found = [
        other
        for pid in _pids()
        if pid != os.getpid() and (other := process(pid)) is not None and _carries(pid, mark)
    ]
    if backend is None or backend.boot_id != _boot_id():
        return found
    # A group's number is not given anew while one of it lives: a leader that is another means it is empty.
    leader = process(backend.pid)
    if leader is None or leader == backend:
        known = {other.pid for other in found}
        for pid in _pids():
            stat = _stat(pid)
            if stat is None or stat.state == "Z" or pid in known or pid == os.getpid():
                continue
            if backend.pid in (stat.group, stat.session):
                found.append(Process(pid, stat.start_ticks, _boot_id()))
    return found


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Waits for a condition; whether it came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def end_members(mark: str, backend: Process | None, patience_s: float) -> list[Process]:
    """Waits until nothing else of a deployment runs, then kills what does; returns what is left even so."""
    if not wait_until(lambda: not members(mark, backend), patience_s):
        for other in members(mark, backend):
            send(other, signal.SIGKILL)
        wait_until(lambda: not members(mark, backend), patience_s)
    return members(mark, backend)


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()  # the name before it may hold anything
    return _Stat(fields[0].decode(), int(fields[2]), int(fields[3]), int(fields[19]))


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK_ENV}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False
