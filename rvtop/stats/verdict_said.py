"""What a verdict says: the names of what can bind a system, and what screens and results read of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# The names, as the screen has them.
CLIENT, ROUTER, BATCH, KV, PREFILL = "client", "router", "batch", "KV cache", "prefill"
DECODE, REPLICAS, ONE_SLOT, ONE_ENGINE = "decode", "replicas", "one at a time", "one engine"
NOTHING, NOT_KNOWN = "nothing", "not known yet"


@dataclass(frozen=True, slots=True)
class Judged:
    """One rule: ``state`` is ``holds``, ``no`` or ``unknown``; ``text`` has its figures, or what is
    missing."""

    name: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``name`` is one of the names in ``verdict_rules``. ``figures`` are up to three, written; ``numbers``
    the same for a program. ``why`` says what it means, ``knob`` what changes it; ``topology`` and
    ``arguments`` start that (empty and None where rvtop can't), ``line`` is the one to use on a
    server of one's own."""

    name: str
    why: str
    figures: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    knob: str = ""
    source: str = ""
    topology: str = ""
    arguments: tuple[str, ...] | None = None
    line: str = ""
    rules: tuple[Judged, ...] = ()
    since_s: float = 0.0  # since the run's start

    @property
    def binds(self) -> bool:
        """Whether something is named that bounds the system."""
        return self.name not in (NOTHING, NOT_KNOWN)

    @property
    def title(self) -> str:
        """``bound by batch``; of a verdict that is not known its own words."""
        return self.name if self.name == NOT_KNOWN else f"bound by {self.name}"
