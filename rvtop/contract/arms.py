"""Several models behind one name: what the screen shows of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: How requests are called that ended without an answer that names an arm.
NO_ARM = "(none)"
#: Shares in percent that the keys go through.
STEPS = (0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0)


@dataclass(frozen=True, slots=True)
class Arm:
    """A model behind the name ``alias``; one behind several names is an arm of each. ``asked`` is the share
    (0..1) that it is to have, ``got`` the one that it had of the requests (where there are several names: of
    those for its name) that ended in the last 10 s; of those are the latencies (ms), the rates and
    ``errors_recent`` too, ``ok`` and ``errors`` since the start. ``up``: whether it has an engine that can
    answer. None: not known. ``kind`` "model": no arm, but one of several models that requests name."""

    name: str
    alias: str = ""
    asked: float | None = None
    got: float | None = None
    up: bool | None = None
    ok: int = 0
    errors: int = 0
    errors_recent: int = 0
    ttft_p50: float | None = None
    ttft_p99: float | None = None
    ttft_mean: float | None = None
    e2e_mean: float | None = None
    tokens_per_s: float | None = None
    goodput_rps: float | None = None
    kind: str = "arm"


def steered(arms: Sequence[Arm]) -> Arm | None:
    """The arm whose share the keys change: the last one of the split whose shares are known."""
    return next((arm for arm in reversed(arms) if arm.kind == "arm" and arm.asked is not None), None)


def next_share(share: float, *, more: bool) -> float:
    """The next of STEPS above or below a share (percent); the same at the end."""
    further = [step for step in STEPS if (step > share + 0.05 if more else step < share - 0.05)]
    return share if not further else further[0] if more else further[-1]
