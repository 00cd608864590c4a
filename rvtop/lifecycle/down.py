"""``rvtop down``: gently first, then by force, and a look at whether anything is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from rvtop.errors import UserError
from rvtop.lifecycle import state
from rvtop.lifecycle.choose import choose
from rvtop.lifecycle.processes import end_members, members, send, wait_until

#: What a supervisor may need: the grace of requests in flight, the end of a Ray cluster, a last look.
TIMEOUT_S = 45.0
_PATIENCE_S = 12.0  # a backend whose lease lapsed is gone by then

Print = Callable[[str], None]


def down(name: str | None, *, everything: bool, timeout_s: float = TIMEOUT_S, out: Print = print) -> None:
    """Takes one deployment, or all, down. Raises UserError: exit code 2 for an unknown name, 1 when something
    can't be ended."""
    if everything:
        if name is not None:
            raise UserError("give either a name or --all")
        names = [found.name for found in state.deployments()]
        if not names:
            out("nothing is up")
    else:
        names = [choose(name)]
    left = [text for each in names if (text := _end(each, timeout_s, out))]
    if left:
        raise UserError("; ".join(left), 1)


def _end(name: str, timeout_s: float, out: Print) -> str:
    """Ends one; what is left of it, in words."""
    known = state.entry(name)
    if known is None:  # someone else was quicker
        out(f"{name}: down")
        return ""
    began = time.monotonic()
    was_running, forced = known.running, False
    send(known.supervisor, signal.SIGTERM)
    if not wait_until(lambda: not known.running, timeout_s):
        forced = send(known.supervisor, signal.SIGKILL)
        wait_until(lambda: not known.running, _PATIENCE_S)
    found = state.entry(name)
    latest = found if found and found.mark == known.mark else known  # it may have begun a backend anew
    rest = members(latest.mark, latest.backend) if latest.mark else []
    if rest:
        rest = end_members(latest.mark, latest.backend, min(_PATIENCE_S, max(timeout_s, 2.0)))
    if found and found.mark == known.mark:  # and not what another `up` has begun since
        state.forget(state.folder_of(name))
    if rest:
        return f"{name}: can't end {', '.join(f'pid {other.pid}' for other in rest)}"
    took = f"{time.monotonic() - began:.1f} s"
    if forced:
        out(f"{name}: did not stop within {timeout_s:g} s, killed; nothing is left ({took})")
    elif was_running:
        out(f"{name}: down, nothing is left ({took})")
    else:
        out(f"{name}: was not running any more; stale entry removed")
    return ""
