"""What passes between a session and its bridge to Ray (:mod:`rvtop.load.fleet.ray.bridge`).

Down go one ``Begin`` and then messages for the workers; up comes what follows it here.
"""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.load.fleet.ray.clock import NodeClock
from rvtop.load.worker.messages import WorkerSpec


@dataclass(frozen=True)
class Begin:
    """Start ``spec.count`` workers on the cluster at ``address`` (None: the one that runs here)."""

    spec: WorkerSpec
    address: str | None


@dataclass(frozen=True)
class Refused:
    """There will be no workers; ``text`` is one line for the user."""

    text: str


@dataclass(frozen=True)
class Placed:
    """The worker has its node."""

    worker: int
    clock: NodeClock


@dataclass(frozen=True)
class Measured:
    """A node's clock was measured again."""

    clock: NodeClock


@dataclass(frozen=True)
class Output:
    """Bytes that the worker wrote: frames, split anywhere."""

    worker: int
    data: bytes


@dataclass(frozen=True)
class Ended:
    """The worker has ended; ``why`` is one line."""

    worker: int
    why: str
