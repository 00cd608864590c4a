"""What one worker reports: a line for each request that has ended, and figures every few ticks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from time import process_time

import numpy as np

from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.record import Record, lines
from rvtop.load.worker.messages import Delta, Int64s, WorkerSpec
from rvtop.stats.histogram import Histogram
from rvtop.stats.slo import NO_TTFT, good
from rvtop.text import printable_names

_TICK_NS = 100_000_000
_SWEEP_TICKS = 2
#: Ticks lie so long before tenths of the run's seconds: at the edges it would be chance for which second a
#: delta counts, and so the last of each has nearly all of it.
_TICK_LEAD_NS = 50_000_000

#: Lines are written so many at a time, as requests end: those of a tick at 1600 requests a second take 3 ms,
#: and tokens that wait for so long are read together with the next ones.
_PART = 32

Emit = Callable[[Delta], None]


class Ticks:
    """Ticks of a tenth of a second since the run's start, and what is due at them; the time is an argument.

    ``tell_ticks``: ticks between two deltas, a divisor of 10.
    """

    def __init__(self, t0_ns: int, tell_ticks: int, now_ns: int) -> None:
        self._t0_ns = t0_ns
        self._tell_ticks = tell_ticks
        self._swept = self._reported = 0
        self.count = 0
        self.next_ns = 0
        self.advance(now_ns)

    def advance(self, now_ns: int) -> None:
        """Counts the ticks up to ``now_ns``; ``next_ns`` is the time of the one behind it."""
        since_ns = now_ns - self._t0_ns + _TICK_LEAD_NS
        self.count = since_ns // _TICK_NS
        self.next_ns = now_ns + _TICK_NS - since_ns % _TICK_NS

    def rest(self, until: int) -> None:
        """Leaves out the ticks before the one numbered ``until``; :meth:`advance` takes that back."""
        self.next_ns = max(self.next_ns, self._t0_ns + until * _TICK_NS - _TICK_LEAD_NS)

    def sweep_due(self) -> bool:
        """Whether timeouts are to be looked for: True every 0.2 s, or once the loop was away for as long."""
        due = self.count - self._swept >= _SWEEP_TICKS
        if due:
            self._swept = self.count
        return due

    def delta_due(self) -> bool:
        """Whether a delta is to be sent: True every ``tell_ticks``."""
        due = self.count - self._reported >= self._tell_ticks
        if due:
            self._reported = self.count - self.count % self._tell_ticks
        return due


class Reporter:
    """Counts requests from send to end, and makes deltas of them."""

    def __init__(self, spec: WorkerSpec, emit: Emit) -> None:
        self._spec = spec
        self._emit = emit
        self._names = [phase.name for phase in spec.phases]
        self._shown_models = printable_names(spec.models)  # requests carry the ids as the server named them
        self.intended = self.sent = self.finished = 0
        self._held = [0] * len(spec.models)  # in flight, by model
        self._at: dict[int, int] = {}  # the same by target
        self._lags: list[int] = []
        self._ended: list[Record] = []
        self._written: list[bytes] = []  # lines of the first of them, _PART each
        self.loop_lags: list[int] = []  # of ticks, ns
        self._slos: list[tuple[int, Mapping[str, int]]] = [
            (0, spec.slo_ns)
        ]  # (since when, limits), in that order
        self.prompt_sets = 1  # that were read

    def add_models(self, models: Sequence[str]) -> None:
        """Adds models, numbered after those that are known."""
        self._shown_models += printable_names(models)
        self._held += [0] * len(models)

    def judge_by(self, slo_ns: Mapping[str, int], from_ns: int) -> None:
        """Requests intended at ``from_ns`` or later are good by these limits."""
        self._slos.append((from_ns, slo_ns))

    def add_phase(self, name: str) -> None:
        """Appends a phase."""
        self._names.append(name)

    def note_sent(self, record: Record) -> None:
        """A request was sent, or is tried to be."""
        self.intended += 1
        self.sent += 1
        self._held[record.model] += 1
        self._at[record.target] = self._at.get(record.target, 0) + 1
        self._lags.append(record.sent_ns - record.intended_ns)

    def note_ended(self, record: Record) -> None:
        """A request has ended."""
        self.finished += 1
        if record.sent_ns:
            self._held[record.model] -= 1
            self._at[record.target] = self._at.get(record.target, 0) - 1
        self._ended.append(record)
        if len(self._ended) >= (len(self._written) + 1) * _PART:
            self._write_part()

    def _write_part(self) -> None:
        """Writes the lines of the next few requests that have ended, or of the last."""
        spec, begin = self._spec, len(self._written) * _PART
        part = self._ended[begin : begin + _PART]
        self._written.append(lines(part, spec.t0_ns, self._names, self._shown_models, spec.index))

    def report(self, now_ns: int, fresh: Fresh, in_flight: int, phase: int, *, over: bool) -> None:
        """Emits a delta of all since the last one. ``fresh``: first tokens and gaps since then; ``over``:
        nothing of ``phase`` is left to send, and nothing in flight."""
        spec = self._spec
        while len(self._ended) > len(self._written) * _PART:
            self._write_part()
        ended, self._ended = self._ended, []
        written, self._written = self._written, []
        lags, self._lags = self._lags, []
        loop_lags, self.loop_lags = self.loop_lags, []
        ok = [r for r in ended if r.error is None]
        counted = [r for r in ok if r.output_tokens is not None]
        errors: dict[str, int] = {}
        for record in ended:
            if record.error is not None:
                errors[record.error] = errors.get(record.error, 0) + 1
        ttft = _array([r.first_ns - r.intended_ns if r.first_ns else NO_TTFT for r in ok])
        e2e = _array([r.last_ns - r.intended_ns for r in ok])
        tokens = _array([r.tokens for r in ok])
        several = (tokens > 1) & (ttft != NO_TTFT)
        at_once = sum(r.told_tokens or 0 for r in ok)  # of answers in one piece
        delta = Delta(
            worker=spec.index,
            t_ns=now_ns,
            phase=phase,
            intended=self.intended,
            sent=self.sent,
            done=self.finished,
            in_flight=in_flight,
            in_flight_by_model=tuple(self._held),
            in_flight_at=dict(self._at),
            lag_ns=_array(lags),
            ttft_ns=_array(fresh.ttft_ns),
            e2e_ns=e2e,
            gaps=Histogram.of(fresh.gaps_ns),
            chunks=len(fresh.gaps_ns) + len(fresh.ttft_ns) + at_once,
            ok=len(ok),
            good=self._good(ok, ttft, e2e, tokens),
            counted_tokens=sum(r.output_tokens or 0 for r in counted),
            counted_chunks=sum(r.chunks for r in counted),
            tokens=int(tokens.sum()),
            errors=errors,
            lines=b"".join(written),
            loop_lag_ns=_array(loop_lags),
            cpu_s=process_time(),
            tpot_ns=(e2e - ttft)[several] // (tokens[several] - 1),
            prompt_sets=self.prompt_sets,
            over=over,
        )
        self._emit(delta)

    def _good(self, ok: list[Record], ttft: Int64s, e2e: Int64s, tokens: Int64s) -> int:
        """How many of ``ok`` are good."""
        slos = self._slos
        if len(slos) == 1 and not slos[0][1]:
            return 0
        return int(good(slos, _array([r.intended_ns for r in ok]), ttft, e2e, tokens).sum())


def _array(values: Sequence[int] | array[int]) -> Int64s:
    return np.asarray(values, dtype=np.int64)
