"""Which deployment a command means."""

from __future__ import annotations

from rvtop.errors import UserError
from rvtop.lifecycle import state


def choose(name: str | None, *, logs: bool = False) -> str:
    """``name``, if there is such a deployment (with ``logs``, or was one); without it the only one there is.
    Raises UserError."""
    known = [found.name for found in state.deployments()]
    if name is None:
        if len(known) == 1:
            return known[0]
        if known:
            raise UserError(f"several deployments: {', '.join(known)}; name one")
        raise UserError("nothing is up; start something with: rvtop up TOPOLOGY")
    if name in known or (logs and state.log_of(name).exists()):
        return name
    have = f"known: {', '.join(known)}" if known else "nothing is up"
    raise UserError(f"{name}: no such deployment; {have}")
