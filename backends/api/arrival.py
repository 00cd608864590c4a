"""When a request arrived at our router: a header that the router sets and an engine's server reads.

It holds the time in µs since 1970 and the machine whose clock that is: another machine's clock says nothing
here, so between two machines it is not told.
"""

from __future__ import annotations

import hashlib
import re
import time
from functools import cache
from pathlib import Path

HEADER = "x-rvtop-arrived"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STAMP = re.compile(r"([0-9]{16}) ([0-9a-f]{16})")


@cache
def machine() -> str:
    """Names this machine since it was booted: all its processes, in containers too, have one clock."""
    try:
        boot = _BOOT_ID.read_bytes()
    except OSError:  # no Linux
        boot = b""
    return hashlib.sha256(boot.strip()).hexdigest()[:16] if boot else ""


def router_ms(stamp: str | None) -> float | None:
    """How long ago a request arrived at the router of this machine; None for another machine's stamp, none,
    or one that is in the future (the clock was set meanwhile)."""
    found = None if stamp is None else _STAMP.fullmatch(stamp)
    if found is None or found[2] != machine():
        return None
    ago_us = time.time_ns() // 1000 - int(found[1])
    return ago_us / 1e3 if ago_us >= 0 else None
