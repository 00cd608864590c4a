"""The reaper: ends what its owner leaves behind when it is killed. A script, standard library only.

    python -I -S reaper.py FOLDER NAME [GROUP]        # stdin is a pipe from the owner

Ray's raylet dies with the process that started it, but its agents and the cluster's folder stay; vLLM's
engine process does not notice that its parent is gone. When stdin ends (the owner closed it, or died in
whatever way), every process but the owner that was started with ``NAME=FOLDER`` in its environment is killed,
and FOLDER is removed. FOLDER is a fresh ``mkdtemp`` path, so no other process has that entry. A process
that only has a file of the folder open (an editor, a user's ``tail -f``) is left alone.

With GROUP, the owner's process group is killed too (vLLM's processes rename themselves, which overwrites
their environment), and the reaper is reparented: Ray kills the children of a worker that ends. Ray's agents
rename themselves as well and stay in the owner's group, and what vLLM starts in a worker of Ray's stays in
the owner's session: those whose raylet, or whose parent, is gone are killed, since they take up to a minute
to notice that.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

# A process that cannot be killed (a hung driver) must not keep the reaper for ever.
LIMIT_S = 30.0


def main(folder: str, name: str, group: int | None = None) -> None:
    """Waits for the owner's end, then cleans up."""
    if group is not None and os.fork():
        os._exit(0)
    spared = {os.getpid()} if group is not None else {os.getpid(), os.getppid()}
    mark = os.fsencode(f"{name}={folder}")
    owners = os.getpgid(os.getppid()) if group is None else group
    session = os.getsid(os.getppid()) if group is None else None

    def ours(pid: int) -> bool:
        if _carries(pid, mark):
            return True
        process = _stat(pid)
        if process is None:
            return False
        if group is not None:
            return process.group == owners
        # A worker of Ray has a group of its own, and with it what vLLM started in it.
        near = process.session == session if process.is_vllm else process.group == owners
        return near and process.is_orphan

    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and kill_all(ours, spared):
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def kill_all(ours: Callable[[int], bool], spared: Collection[int]) -> int:
    """Kills every process for which ``ours`` is true, and returns how many there were."""
    found = 0
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        if pid in spared or not ours(pid):
            continue
        found += 1
        try:
            handle = os.pidfd_open(pid)
        except OSError:  # it ended by itself
            continue
        try:
            if ours(pid):  # checked again while we hold it: the number may have been reused
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:  # it ended by itself, or is another user's
            pass
        finally:
            os.close(handle)
    return found


def _carries(pid: int, mark: bytes) -> bool:
    """Whether a process was started with this entry in its environment. (That of a zombie is empty.)"""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:  # gone, or another user's
        return False


class Process(NamedTuple):
    """A process that has not ended: what /proc says of it."""

    name: str
    parent: int
    group: int
    session: int

    @property
    def is_vllm(self) -> bool:
        return self.name.startswith("VLLM::")

    @property
    def is_orphan(self) -> bool:
        """Whether it is an agent of Ray (they are named ray::…) whose raylet is gone, or vLLM's (VLLM::…)
        whose parent is: who takes in orphans is of another group."""
        parent = _stat(self.parent)
        if self.is_vllm:
            return parent is None or parent.group != self.group
        return self.name.startswith("ray::") and (parent is None or parent.name != "raylet")


def _stat(pid: int) -> Process | None:
    """None when it is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
        state, parent, group, session = tail.split()[:4]
    except (OSError, ValueError):  # gone
        return None
    return (
        None
        if state == b"Z"
        else Process(os.fsdecode(head.partition(b"(")[2]), int(parent), int(group), int(session))
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
