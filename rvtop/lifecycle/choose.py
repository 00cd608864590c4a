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


def url_of(on: str | None) -> str:
    """The URL of a backend that is up: ``on`` itself, or that of the deployment named so; None: of the only
    deployment. Raises UserError."""
    if on is not None and ":" in on:
        from rvtop.target.probe import base_url

        return base_url(on)
    name = choose(on)
    found = state.entry(name)
    if found is None or found.url is None:
        raise UserError(f"{name}: is not up yet; rvtop ps shows its state")
    return found.url
