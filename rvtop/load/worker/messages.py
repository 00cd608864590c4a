"""What passes between a session and its load workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.load.plan.api import Api
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.wire.endpoint import Address
from rvtop.load.wire.timeouts import Timeouts
from rvtop.stats.histogram import Histogram

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker needs to know before the first command."""

    index: int
    count: int
    t0_ns: int  # the run's start on perf_counter_ns
    seed: int
    address: Address
    prompts: str  # path of prompts.jsonl
    models: tuple[str, ...]
    body: Mapping[str, Any]  # fields that every request carries
    phases: tuple[PhasePlan, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    slo_ns: Mapping[str, int] = field(default_factory=dict)  # ttft, tpot, e2e: what makes a request good
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields of the user's, which win over all others
    most_in_flight: int | None = None  # requests over all workers that the machine can hold (``capacity``)
    traces: str = ""  # the run's number in the traces of its requests, hexadecimal; "": they have none
    name: str = "rvtop"  # what the ids of its requests begin with
    tell_ticks: int = 1  # tenths of a second between two deltas, a divisor of 10
    shares: tuple[float, ...] = ()  # of ``models``; none: each in turn
    api: Api = field(default_factory=Api)  # which endpoint is spoken
    pair: AddTarget | None = None  # target 1, to which each request goes too (``worker/pairs.py``)


@dataclass(frozen=True)
class AddPhase:
    """One more phase, numbered after those that are known; an entry of the log may begin it."""

    phase: PhasePlan


@dataclass(frozen=True)
class AddTarget:
    """One more target, numbered after those that are known; a ``target`` entry of the log may send to it.
    ``models`` are those to send to, by ``shares``; without, in turn. Its certificates are those of the first
    target, which a worker on another node has under other paths."""

    address: Address
    models: tuple[str, ...]
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class AddPrompts:
    """One more set of prompts, numbered after those that are known; a ``workload`` entry may send them, once
    the worker's deltas say that it holds them. ``data``: what the file at ``path`` holds, for a worker that
    can't read it."""

    path: str
    data: bytes | None = None


#: What a session hands to each of its workers, in this order, while they run.
Message = PlanEvent | AddPhase | AddTarget | AddPrompts


@dataclass(frozen=True)
class Ready:
    """The worker stands by."""

    worker: int
    pid: int


@dataclass(frozen=True)
class Failed:
    """The worker can't work; ``text`` is one line for the user."""

    worker: int
    text: str


@dataclass
class Delta:
    """What one worker saw since its last delta (see ``tell_ticks``; and at once when a phase has drained).

    ``intended``, ``sent`` and ``done`` count since the start, ``in_flight`` is of now, all else since the
    last delta.
    Durations are nanoseconds; ``lines`` is ready-made text for requests.jsonl.
    """

    worker: int
    t_ns: int
    phase: int
    intended: int
    sent: int
    done: int
    in_flight: int
    in_flight_by_model: tuple[int, ...]
    lag_ns: Int64s
    ttft_ns: Int64s
    e2e_ns: Int64s
    gaps: Histogram
    chunks: int  # chunks that carried tokens, and the tokens of answers that came in one piece
    ok: int
    counted_tokens: int  # output tokens of requests whose usage came …
    counted_chunks: int  # … and their chunks: the ratio scales the live figure
    tokens: int  # output tokens of requests that ended well
    errors: dict[str, int]
    lines: bytes
    loop_lag_ns: Int64s  # of each tick
    cpu_s: float  # since the worker's start
    tpot_ns: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # of ok requests, n > 1
    good: int = 0  # of ``ok``, the ones that meet the SLO
    prompt_sets: int = 1  # sets of prompts that it holds
    in_flight_at: dict[int, int] = field(default_factory=dict)  # requests in flight by number of their target
    over: bool = False  # the phase has no arrival left here, and nothing is in flight

    def tells_more_than(self, before: Delta | None) -> bool:
        """Whether anything has happened to requests since the one ``before``."""
        if before is None or self.in_flight or self.lines:
            return True
        now = (self.phase, self.intended, self.sent, self.done, self.prompt_sets, self.over)
        then = (before.phase, before.intended, before.sent, before.done, before.prompt_sets, before.over)
        return now != then or self.in_flight != before.in_flight
