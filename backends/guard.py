"""Ends what a process of ours leaves behind when it is killed. A script, standard library only.

    python -I -S guard.py FOLDER [GROUP]        # stdin is a pipe from the owner

Ray's raylet dies with the process that started it, but its agents and the cluster's folder stay; vLLM's
engine process does not notice that its parent is gone. When stdin ends (the owner closed it, or died in
whatever way), every process but the owner that carries FOLDER in its command line, its environment or its
open files is killed, and FOLDER is removed. FOLDER is a fresh ``mkdtemp`` path, so nobody else carries it.

With GROUP, the owner's process group is killed too (vLLM's processes rename themselves, which overwrites what
they carry), and the guard is nobody's child: Ray kills the children of a worker that ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

# A process that cannot be killed (a hung driver) must not keep the guard for ever.
LIMIT_S = 30.0


def main(folder: str, group: int | None = None) -> None:
    """Waits for the owner's end, then cleans up."""
    if group is not None and os.fork():
        os._exit(0)
    spared = {os.getpid()} if group is not None else {os.getpid(), os.getppid()}
    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        left = [pid for pid in {*carriers(folder), *members(group)} if pid not in spared]
        if not left:
            break
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:  # it ended by itself, or is not ours to end
                continue
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def carriers(folder: str) -> list[int]:
    """Processes that belong to the cluster in ``folder``."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _carries(int(name), folder)]


def members(group: int | None) -> list[int]:
    """Processes of a process group that are not zombies."""
    found = []
    for name in os.listdir("/proc") if group is not None else ():
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:
                state, _, pgrp = file.read().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):  # gone, or no process at all
            continue
        if int(pgrp) == group and state != b"Z":
            found.append(int(name))
    return found


def _carries(pid: int, folder: str) -> bool:
    needle = os.fsencode(folder)
    for name in ("cmdline", "environ"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                if needle in file.read():
                    return True
        except OSError:  # gone, a zombie, or another user's
            return False
    try:  # a process that renames itself may have overwritten both; its log files tell
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_link(f"/proc/{pid}/fd/{name}").startswith(folder + "/") for name in names)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
