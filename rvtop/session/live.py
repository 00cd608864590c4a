"""The client side of the live view: worker deltas folded into windows, phases and rates.

``fold(state, delta)`` is all that happens to a delta; a snapshot is read off the state whenever one
is wanted. Times are ``perf_counter_ns``.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from rvtop.contract.figures import RATIO_TOLERANCE
from rvtop.contract.snapshot import Dist
from rvtop.load.worker.messages import Delta
from rvtop.stats.histogram import Histogram

SECOND_NS = 1_000_000_000
WINDOW_S = 10
_RATE_WINDOW_NS = 2 * SECOND_NS


@dataclass
class Second:
    """One second of the run."""

    index: int  # seconds since the run's start
    ttft: Histogram = field(default_factory=Histogram)
    gaps: Histogram = field(default_factory=Histogram)
    e2e: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)
    chunks: int = 0
    ok: int = 0
    good: int = 0
    errors: int = 0
    loop: Histogram = field(default_factory=Histogram)  # the event loops' delays
    loop_lag_ns: int = 0


@dataclass(frozen=True)
class Totals:
    """Counts since the start, over all workers, at ``t_ns``."""

    t_ns: int
    intended: int
    sent: int
    ok: int


@dataclass
class LiveState:
    """What the deltas add up to. ``t0_ns`` is the run's start."""

    t0_ns: int
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=WINDOW_S + 2))
    phase_ttft: Histogram = field(default_factory=Histogram)
    phase_gaps: Histogram = field(default_factory=Histogram)
    phase_e2e: Histogram = field(default_factory=Histogram)
    phase_tpot: Histogram = field(default_factory=Histogram)
    before: dict[str, Histogram] = field(default_factory=dict)  # latencies of the phases that are over
    phase_ok: int = 0
    phase_errors: Counter[str] = field(default_factory=Counter)
    latest: dict[int, Delta] = field(default_factory=dict)  # newest delta of each worker
    history: deque[Totals] = field(default_factory=deque)
    ok: int = 0
    tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    counted_tokens: int = 0
    counted_chunks: int = 0
    cpu_s: dict[int, float] = field(default_factory=dict)
    cpu: dict[int, deque[tuple[int, float]]] = field(default_factory=dict)  # (t_ns, cpu_s) by worker

    # -- what the state says -----------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return sum(delta.in_flight for delta in self.latest.values())

    def in_flight_at(self, target: int) -> int:
        """The same of one target, by its number."""
        return sum(delta.in_flight_at.get(target, 0) for delta in self.latest.values())

    def in_flight_by_model(self, models: Sequence[str]) -> dict[str, int]:
        """The same by the names of ``models``, in the order that the workers know them by."""
        # One that was not told of a further target's models yet has none of them.
        told = (d.in_flight_by_model for d in self.latest.values())
        held = [sum(each) for each in zip_longest([0] * len(models), *told, fillvalue=0)]
        return dict(zip(models, held, strict=True))

    @property
    def sent(self) -> int:
        return sum(delta.sent for delta in self.latest.values())

    @property
    def due(self) -> int:
        """Arrivals that the plan has had so far."""
        return sum(delta.intended for delta in self.latest.values())

    @property
    def chunk_ratio(self) -> float | None:
        """Output tokens by the server's usage, per chunk that carried some; None before any usage came."""
        return self.counted_tokens / self.counted_chunks if self.counted_chunks else None

    @property
    def gaps_are_tokens(self) -> bool:
        """Whether the time between chunks may be called ITL."""
        ratio = self.chunk_ratio
        return ratio is None or abs(ratio - 1.0) <= RATIO_TOLERANCE

    def rates(self, now_ns: int) -> tuple[float | None, float | None, float | None]:
        """(offered, sent, completed) requests per second over the last 2 s; None before there is a span."""
        past = [t for t in self.history if now_ns - t.t_ns <= _RATE_WINDOW_NS]
        if len(past) < 2:
            return None, None, None
        first, last = past[0], past[-1]
        span = (last.t_ns - first.t_ns) / 1e9
        if span < 0.2:
            return None, None, None
        return (
            (last.intended - first.intended) / span,
            (last.sent - first.sent) / span,
            (last.ok - first.ok) / span,
        )

    def recent(self, now_ns: int, seconds: int = WINDOW_S) -> list[Second]:
        """The seconds of the window that ends now, the one that runs included."""
        index = (now_ns - self.t0_ns) // SECOND_NS
        return [s for s in self.seconds if s.index > index - seconds]

    def last_full(self, now_ns: int) -> Second | None:
        """The last second that is over, if it is held."""
        index = (now_ns - self.t0_ns) // SECOND_NS - 1
        return next((s for s in self.seconds if s.index == index), None)

    def tokens_per_s(self, now_ns: int) -> float | None:
        """Output tokens in the last full second: chunks scaled by the usage-to-chunk ratio; None before
        anything was sent, and where answers have none (embeddings)."""
        second = self.last_full(now_ns)
        if self.ok and not self.tokens:
            return None
        if not self.sent or (now_ns - self.t0_ns) < SECOND_NS:
            return None
        return (second.chunks if second else 0) * (self.chunk_ratio or 1.0)

    def goodput(self, now_ns: int) -> float | None:
        """Requests a second that met the SLO, over the seconds of the window that are full; None before."""
        index = (now_ns - self.t0_ns) // SECOND_NS
        if not self.sent or not index:
            return None
        full = [s for s in self.recent(now_ns) if s.index < index]
        return sum(s.good for s in full) / min(WINDOW_S - 1, index)

    def worker_cpu(self, now_ns: int) -> float | None:
        """The busiest worker's share (0..1) of a core over the last second or two; None before a second."""
        shares = []
        for seen in self.cpu.values():
            span = seen[-1][0] - seen[0][0]
            if span >= SECOND_NS // 2 and now_ns - seen[-1][0] < _RATE_WINDOW_NS:
                shares.append((seen[-1][1] - seen[0][1]) / span * 1e9)
        return max(shares, default=None)

    @property
    def latencies(self) -> dict[str, Histogram]:
        """TTFT, ITL (time between chunks) and E2E of all phases, by ``ttft``, ``itl``, ``e2e``."""
        now = {"ttft": self.phase_ttft, "itl": self.phase_gaps, "e2e": self.phase_e2e}
        return {
            key: merged([self.before[key], here] if key in self.before else [here])
            for key, here in now.items()
        }

    def begin_phase(self) -> None:
        """A phase begins: its distributions start empty."""
        self.before = self.latencies
        self.phase_ttft = Histogram()
        self.phase_gaps = Histogram()
        self.phase_e2e = Histogram()
        self.phase_tpot = Histogram()
        self.phase_ok = 0
        self.phase_errors = Counter()

    def lose(self, worker: int) -> None:
        """A worker is gone: what it had in flight ended as ``worker_lost``."""
        delta = self.latest.get(worker)
        if delta is not None and delta.in_flight:
            self.errors["worker_lost"] += delta.in_flight
            delta.in_flight = 0
            delta.in_flight_by_model = tuple(0 for _ in delta.in_flight_by_model)
            delta.in_flight_at = {}


def fold(state: LiveState, delta: Delta) -> LiveState:
    """Adds one delta to the state (in place) and returns it."""
    second = _second(state, (delta.t_ns - state.t0_ns) // SECOND_NS)
    ttft, e2e = Histogram.of(delta.ttft_ns), Histogram.of(delta.e2e_ns)
    second.ttft.merge(ttft)
    second.gaps.merge(delta.gaps)
    second.e2e.merge(e2e)
    second.lag.add(np.maximum(delta.lag_ns, 1))
    second.chunks += delta.chunks
    second.ok += delta.ok
    second.good += delta.good
    second.errors += sum(delta.errors.values())
    second.loop.add(np.maximum(delta.loop_lag_ns, 1))
    second.loop_lag_ns = max(second.loop_lag_ns, int(delta.loop_lag_ns.max(initial=0)))
    state.phase_ttft.merge(ttft)
    state.phase_gaps.merge(delta.gaps)
    state.phase_e2e.merge(e2e)
    state.phase_tpot.add(delta.tpot_ns)
    state.phase_ok += delta.ok
    state.phase_errors.update(delta.errors)
    state.latest[delta.worker] = delta
    state.ok += delta.ok
    state.tokens += delta.tokens
    state.errors.update(delta.errors)
    state.counted_tokens += delta.counted_tokens
    state.counted_chunks += delta.counted_chunks
    state.cpu_s[delta.worker] = delta.cpu_s
    seen = state.cpu.setdefault(delta.worker, deque())
    seen.append((delta.t_ns, delta.cpu_s))
    while len(seen) > 1 and delta.t_ns - seen[1][0] >= SECOND_NS:  # so what is left spans a second
        seen.popleft()
    state.history.append(Totals(delta.t_ns, state.due, state.sent, state.ok))
    while state.history and delta.t_ns - state.history[0].t_ns > 2 * _RATE_WINDOW_NS:
        state.history.popleft()
    return state


def _second(state: LiveState, index: int) -> Second:
    for second in reversed(state.seconds):
        if second.index == index:
            return second
    made = Second(index)
    state.seconds.append(made)
    return made


def merged(histograms: list[Histogram]) -> Histogram:
    """The sum of several histograms."""
    out = Histogram()
    for histogram in histograms:
        out.merge(histogram)
    return out


def dist(now: Histogram | None, recent: Histogram, phase: Histogram) -> Dist:
    """The figures of one latency for the screen, in ms; what has no events is None."""

    def ms(ns: float) -> float | None:
        return None if math.isnan(ns) else ns / 1e6

    return Dist(
        now=ms(now.mean_ns) if now is not None else None,
        mean=ms(recent.mean_ns),
        p50=ms(recent.percentile(50)),
        p90=ms(recent.percentile(90)),
        p99=ms(recent.percentile(99)),
        phase_p99=ms(phase.percentile(99)),
        count=recent.count,
    )
