"""Attempts to break rvtop, each with the end that it must have: ``python -m tests.faults.attempts``.

An attempt is a small function in one of the files beside this one, registered by :func:`attempt` (or a row of
a table there). It raises AssertionError where something does not hold, and :class:`Skip` where this machine
can't do it. The runner bounds each in time and fails those that leave a process behind.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

#: The files that hold them, in the order in which they run.
AREAS = (
    "http_answers",
    "events",
    "tls",
    "hosts",
    "between",
    "crowds",
    "plans",
    "commands",
    "processes",
    "folders",
    "pages",
    "sockets",
    "replays",
    "dashboards",
    "views",
    "showdowns",
    "rays",
)


class Skip(Exception):
    """This machine can't do it; says why."""


@dataclass(frozen=True)
class Attempt:
    """``name`` is unique; ``own_network``: it runs in network and mount namespaces of its own."""

    name: str
    about: str
    run: Callable[[], None]
    limit_s: float
    own_network: bool = False


ATTEMPTS: dict[str, Attempt] = {}


def add(
    name: str, about: str, run: Callable[[], None], limit_s: float = 60, own_network: bool = False
) -> None:
    """Registers an attempt."""
    assert name not in ATTEMPTS, f"two attempts are named {name}"
    ATTEMPTS[name] = Attempt(name, about, run, limit_s, own_network)


def attempt(
    about: str, limit_s: float = 90, *, own_network: bool = False
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers a function under its own name."""

    def register(run: Callable[[], None]) -> Callable[[], None]:
        add(run.__name__, about, run, limit_s, own_network)
        return run

    return register


def load() -> dict[str, Attempt]:
    """All attempts, by name."""
    for area in AREAS:
        importlib.import_module(f"tests.faults.attempts.{area}")
    return ATTEMPTS
