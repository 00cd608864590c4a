"""How a showdown stands: topologies that run one after another with the same work, a row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rvtop.stats.distribution import EMPTY, Distribution

#: The key figures of a row, and the heads of their columns.
HEADS = {
    "ttft_ms": "TTFT ms",
    "latency_avg_ms": "Latency_avg ms",
    "latency_total_s": "Latency_total s",
    "tps": "TPS",
    "completed_pct": "completed %",
}
#: Those that are compared where completion is the same.
COMPARED = ("ttft_ms", "latency_avg_ms", "latency_total_s", "tps")


@dataclass(frozen=True, slots=True)
class Score:
    """The row of a topology. ``state``: wait, run, done, failed, skipped. ``figures`` are means over the
    ``repeats`` that count, by the keys of ``HEADS``; ``ranges`` their least and greatest values;
    ``change_pct`` is against the reference, ``verdicts`` say of each whether it is significant."""

    name: str
    state: str
    figures: Mapping[str, float | None] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    change_pct: Mapping[str, float | None] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    censored: bool = False  # completion differs from the reference's by more than a point
    repeats: int = 0
    start_s: float | None = None  # how long it took to be ready, mean
    expected_start_s: float | None = None  # median of its last starts on this machine
    reason: str = ""  # why the last one does not count
    ttft: Distribution = EMPTY  # of all that was measured in the last repeat that counts


@dataclass(frozen=True, slots=True)
class Showdown:
    """The whole of it. ``turn`` is the session that runs, or ran last, from 1; ``turns`` None: without end.
    ``left_s`` is an estimate; None before the first has ended."""

    scenario: str
    scores: tuple[Score, ...]
    reference: str
    turn: int = 0
    turns: int | None = None
    repeat: int = 1  # of the one that runs
    elapsed_s: float = 0.0
    left_s: float | None = None
    notes: tuple[str, ...] = ()  # which knobs differ
    over: bool = False
    folder: str = ""
