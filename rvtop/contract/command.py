"""The commands that a person, a scenario or a replay gives to a running session."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetRate:
    """Change the arrival rate (requests per second, >= 0) of the phase that runs."""

    rps: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop sending; what is in flight goes on. There is no catch-up afterwards."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Send again, from now, at the rate in force."""


@dataclass(frozen=True, slots=True)
class NextPhase:
    """End this phase now (it drains) and begin the next."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the run: cancel what is in flight, write the results, end what we started."""

    reason: str = "stopped"


Command = SetRate | Pause | Resume | NextPhase | Stop
