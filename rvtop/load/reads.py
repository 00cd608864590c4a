"""The read path in C, where it is there (see ``_reads.c``)."""

from __future__ import annotations

import os

try:
    from rvtop.load._reads import Hub
except ImportError:  # no Linux, or no compiler where it was installed: asyncio reads
    Hub = None  # type: ignore[assignment, misc]

#: Set to anything, all reads go through asyncio; for comparing the two, and for finding faults.
PURE_ENV = "RVTOP_PURE_READS"


def native() -> bool:
    """Whether reads are done in C here."""
    return Hub is not None and not os.environ.get(PURE_ENV)


def make_hub() -> Hub | None:
    """A new hub, None where reads go through asyncio."""
    return Hub() if native() else None
