"""How many load workers, and where: ``--workers 3``, ``auto`` or ``ray:8``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from rvtop.errors import UserError
from rvtop.load.plan.limits import MAX_WORKERS

#: What a worker's process is started with, unless the user says otherwise. NumPy's OpenBLAS would start
#: threads, and system calls of a process with threads cost more.
WORKER_ENV = {"OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Workers:
    """``count`` workers to begin with; ``auto`` adds processes as they are needed, ``ray`` puts them on the
    nodes of a Ray cluster."""

    count: int = 1
    auto: bool = False
    ray: bool = False

    def __str__(self) -> str:
        return "auto" if self.auto else f"ray:{self.count}" if self.ray else str(self.count)


def parse_workers(text: str) -> Workers:
    """The meaning of ``--workers TEXT``. Raises UserError."""
    if text == "auto":
        return Workers(auto=True)
    found = re.fullmatch(r"(ray:)?([0-9]{1,9})", text)
    count = int(found[2]) if found else 0
    if found is None or not 1 <= count <= MAX_WORKERS:
        raise UserError(f"--workers {text}: must be a number from 1 to {MAX_WORKERS}, auto, or ray:N")
    return Workers(count, ray=found[1] is not None)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
