"""The read path in C, where it is there (see ``module.c``)."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable
from pathlib import Path

try:
    from rvtop.load.native import _native
except ImportError:  # no Linux, or no compiler where it was installed: asyncio reads
    _native = None  # type: ignore[assignment]

#: Set to anything, all reads go through asyncio; for comparing the two, and for finding faults.
PURE_ENV = "RVTOP_PURE_READS"


def digest(folder: Path) -> str:
    """A digest of the module's sources. (The build hook has the same function: it can't import this one.)"""
    sources = sorted(folder.glob("*.[ch]"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


#: A module that was built from another source than the one beside it would fail in the middle of a run.
_FRESH = _native is not None and digest(Path(__file__).parent) == _native.SOURCE


def native() -> bool:
    """Whether reads are done in C here."""
    return _FRESH and not os.environ.get(PURE_ENV)


def make_poller() -> _native.Poller | None:
    """A new poller, None where reads go through asyncio."""
    try:
        return _native.Poller() if native() else None
    except OSError:  # no descriptor left
        return None


def bucket_counter(edges: bytes) -> Callable[[array[int]], bytes] | None:
    """What counts values by bucket (see ``count_buckets`` in ``_native.pyi``), None where C can't."""
    if not native():
        return None
    count = _native.count_buckets
    return lambda values: count(values, edges)
