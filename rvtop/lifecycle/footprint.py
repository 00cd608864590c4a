"""What the processes below one take of memory, and which of them are vLLM's engine. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How vLLM names the processes that hold a model; what answers requests in front of them has other names.
_ENGINE = "VLLM::"
#: In the command line of such a process that could not name itself: setproctitle does nothing, and says
#: nothing, where it does not find the arguments to write over.
_SPAWNED = b"from multiprocessing.spawn import spawn_main"


@dataclass(frozen=True, slots=True)
class Part:
    """One process. ``memory_bytes`` is its share of what it holds: what n processes hold together counts an
    nth for each of them."""

    pid: int
    name: str
    memory_bytes: int
    spawned: bool = False  # by vLLM, which spawns what holds a model

    @property
    def is_engine(self) -> bool:
        return self.spawned or self.name.startswith(_ENGINE)


def below(pid: int) -> list[Part]:
    """All descendants of ``pid`` and itself, oldest number first."""
    parents = {child: (parent, name) for child, parent, name in _processes()}
    found = {pid}
    more = {pid}
    while more:
        more = {child for child, (parent, _) in parents.items() if parent in more} - found
        found |= more
    return [
        Part(one, parents[one][1], _memory(one), _SPAWNED in _command(one))
        for one in sorted(found)
        if one in parents
    ]


def overhead(parts: Sequence[Part]) -> tuple[int, int] | None:
    """Bytes and number of all ``parts`` that are no engine; None while there is no engine."""
    others = [part for part in parts if not part.is_engine]
    return None if len(others) == len(parts) else (sum(part.memory_bytes for part in others), len(others))


def child_with(text: str) -> int | None:
    """The child of this process that has the word ``text`` in its command line; None where there is none."""
    for child, parent, _ in _processes():
        if parent == os.getpid() and text.encode() in _command(child).split(b"\0"):
            return child
    return None


def kill_engine(parts: list[Part]) -> bool:
    """Kills the first engine of ``parts`` at once, as a crash would; whether there was one."""
    for part in parts:
        if part.is_engine:
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(part.pid)
                try:
                    now = _stat(part.pid)  # held by now, so it can't become another process
                    if now is not None and now[1] == part.name:
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        return True
                finally:
                    os.close(handle)
    return False


def _processes() -> Iterator[tuple[int, int, str]]:
    """(number, parent's number, name) of every process that runs."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (found := _stat(int(entry))) is not None:
            yield int(entry), *found


def _stat(pid: int) -> tuple[int, str] | None:
    """(parent's number, name); None when it has ended, also where its parent has not asked how yet."""
    with contextlib.suppress(OSError, ValueError):
        head, _, tail = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
        state, parent, *_ = tail.split()
        if state != b"Z":
            return int(parent), os.fsdecode(head.partition(b"(")[2])
    return None


def _command(pid: int) -> bytes:
    """Its command line, arguments apart by zeros; empty where it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _memory(pid: int) -> int:
    """Bytes; 0 where it has ended meanwhile."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
