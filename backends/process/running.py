"""What a topology is to the process that starts it: a module with ``start``, which returns what runs."""

from __future__ import annotations

from typing import Protocol

from backends.process.events import Steps
from backends.settings.options import Options


class StartAgain(str):
    """Why a topology broke, where it comes up again if all of it is started anew. ``nodes`` is how many its
    cluster had."""

    nodes = 0


class Running(Protocol):
    """A topology that serves."""

    async def failed(self) -> str:
        """Returns, with the reason in one line, only if the topology broke and cannot recover by itself;
        a StartAgain where a start of all of it mends that."""
        ...

    async def close(self, grace_s: float) -> None:
        """Ends everything it started. Running requests may go on for ``grace_s`` seconds first."""
        ...


class Topology(Protocol):
    """A topology's module."""

    async def start(self, options: Options, steps: Steps) -> Running:
        """Serves ``options.models``, or raises StartFailure (UsageError for impossible options) with nothing
        left running."""
        ...
