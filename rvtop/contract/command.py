"""The commands that a person, a scenario or a replay gives to a running session.

Their names and fields are those of the control protocol (docs/control.md): a field more needs a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from rvtop.errors import UserError


class CommandError(UserError):
    """A command that a session can't follow, or not now: one line for whoever sent it."""


#: Seconds that a ramp or a spike by hand takes at most: a day.
MAX_CHANGE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class SetRate:
    """Change the arrival rate (requests per second, >= 0) of the phase that runs: at once; or over
    ``over_s`` seconds, along ``shape``; or for ``for_s`` seconds only, after which it is what it would be
    without."""

    rps: float
    over_s: float | None = None
    for_s: float | None = None
    shape: Literal["linear", "exponential"] = "linear"


@dataclass(frozen=True, slots=True)
class SetConcurrency:
    """Keep ``requests`` (1 or more) in flight, in place of a rate: as one ends, the next one is sent. The
    phase that runs begins anew as such a closed loop; ``SetRate`` begins it anew with a rate."""

    requests: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop sending; what is in flight goes on. There is no catch-up afterwards."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Send again, from now, at the rate in force."""


@dataclass(frozen=True, slots=True)
class NextPhase:
    """End this phase now (it drains) and begin the next, or this one ``again``."""

    to: Literal["next", "again"] = "next"


@dataclass(frozen=True, slots=True)
class Mark:
    """Note that something happened now: an event, and a line in the command log."""

    note: str


@dataclass(frozen=True, slots=True)
class SetSlo:
    """Count goodput by these limits (ms) from now on; None: no limit of that kind."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel all requests in flight; the load goes on."""


@dataclass(frozen=True, slots=True)
class Undo:
    """Take back the last command that changed the load: its rate, a pause, the SLO."""


@dataclass(frozen=True, slots=True)
class Retarget:
    """Send to another server from now on: to the one at ``url``, or to ``topology``, which is started unless
    this session has it up already.

    ``models``: those to send to, none: those it serves; of a topology those to serve, ``name=source``,
    none: those that the server of now was started with.
    ``arguments`` are the topology's own options. ``place``: beside the server of now, instead of it (ours
    only), or auto: beside where a GPU is free or the server of now is not ours. ``keep``: a server of now
    that is ours stays up where there is room. ``pause``: nothing is sent while the topology starts.
    """

    url: str = ""
    models: tuple[str, ...] = ()
    topology: str = ""
    arguments: tuple[str, ...] = ()
    place: Literal["auto", "beside", "instead"] = "auto"
    keep: bool = True
    pause: bool = False


@dataclass(frozen=True, slots=True)
class SetWorkload:
    """Change the lengths (tokens) of the requests from now on; None: as they are, 0: as the workload has
    them.

    ``prefix_share`` (0..1) of the prompts begin with a shared text of ``prefix_tokens``. A length alone has
    the workload's share; a share alone leaves the length as it is.
    """

    max_tokens: int | None = None
    prompt_tokens: int | None = None
    prefix_tokens: int | None = None
    prefix_share: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Begin (``on``) or end a recording: a scenario file that does again what scenario and hands do.

    ``file``: where to, relative to the session's working folder; none: the run folder, or at the end the name
    that was given at the beginning."""

    on: bool = True
    file: str = ""


@dataclass(frozen=True, slots=True)
class SetSplit:
    """Give the model ``arm`` of a name that the server splits another share of its requests, percent; the
    others divide the rest as they did. ``alias``: the name, needed where the arm is behind several."""

    arm: str
    share: float
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the run: cancel what is in flight, write the results, end what we started."""

    reason: str = "stopped"


Command = (
    SetRate
    | SetConcurrency
    | Pause
    | Resume
    | NextPhase
    | Mark
    | SetSlo
    | Cancel
    | Undo
    | Retarget
    | SetWorkload
    | Record
    | SetSplit
    | Stop
)

#: Each command by its name in the protocol and in the command log.
COMMANDS: dict[str, type[Any]] = {
    "rate": SetRate,
    "closed": SetConcurrency,
    "pause": Pause,
    "resume": Resume,
    "phase": NextPhase,
    "mark": Mark,
    "slo": SetSlo,
    "cancel": Cancel,
    "undo": Undo,
    "retarget": Retarget,
    "workload": SetWorkload,
    "record": Record,
    "split": SetSplit,
    "stop": Stop,
}
NAMES = {kind: name for name, kind in COMMANDS.items()}
