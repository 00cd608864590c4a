"""A load worker: sends its share of the plan and reports to the session what came of it.

It runs alone in its process (``python -m rvtop.load.worker``; see ``process.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns

from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.wire.answer import answers_of
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.paired import PairedPool
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from rvtop.load.worker.messages import WorkerSpec
from rvtop.load.worker.reporter import Emit, Reporter, Ticks
from rvtop.load.worker.sender import Sender

#: Prompts read at once while the load runs, so that none of it waits for long.
_READ = 8
#: Ticks between two deltas that tell nothing new: a second.
QUIET_TICKS = 10


class Worker:
    """The share ``spec.index`` of ``spec.count`` of the load.

    ``emit`` gets a Delta every ``spec.tell_ticks``, every QUIET_TICKS while nothing is sent or comes;
    ``on_stop`` is called once the command to stop was followed; ``poll_commands`` applies pending commands,
    and is called before each send. ``alone`` says whether the loop has nothing to do but this worker, which
    may then keep it for a while. ``clock`` returns nanoseconds of ``perf_counter_ns``. ``second`` is the
    target of ``spec.pair``.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        prompts: Prompts,
        target: Endpoint,
        emit: Emit,
        on_stop: Callable[[], None],
        poll_commands: Callable[[], None] = lambda: None,
        alone: Callable[[], bool] = lambda: False,
        clock: Callable[[], int] = perf_counter_ns,
        second: Endpoint | None = None,
    ) -> None:
        self._spec = spec
        self._on_stop = on_stop
        self._clock = clock
        self._reporter = Reporter(spec, emit)
        self._models = list(spec.models)
        self._prompt_sets = [prompts]
        self._pool: ConnectionPool
        answers = answers_of(spec.api)
        if second is None:
            self._pool = ConnectionPool(target, self._ended, self._reporter.note_sent, alone, answers)
        else:
            self._pool = PairedPool(target, self._ended, self._reporter.note_sent, answers)
        self._sender = Sender(
            spec,
            prompts,
            target,
            self._pool,
            on_dropped=self._dropped,
            on_drained=self._report,
            on_stop=self._stopped,
            poll_commands=poll_commands,
            clock=clock,
        )
        self._wire = self._pool.wire
        self._wire.call_when_due(self._sender.send, self._tick)
        self._ticks = Ticks(spec.t0_ns, spec.tell_ticks, clock())
        self._told: tuple[int, ...] = ()  # the state that the last delta told
        self._told_tick = 0
        self._rests = False  # leaves out ticks
        self._wire.set_tick(self._ticks.next_ns)
        if isinstance(self._pool, PairedPool) and second is not None and spec.pair is not None:
            self._sender.pair_with(second, self._numbers(spec.pair.models), self._pool)

    def command(self, entry: PlanEvent) -> None:
        """Takes one entry of the command log; it takes effect at its time. Entries come in that order."""
        self._wake()
        if entry.kind == "slo":
            self._reporter.judge_by(entry.slo_ns or {}, entry.at_ns)
        else:
            self._sender.command(entry)

    def add_phase(self, phase: PhasePlan) -> None:
        """Appends a phase."""
        self._wake()
        self._sender.add_phase(phase)
        self._reporter.add_phase(phase.name)

    def add_target(self, target: Endpoint, models: Sequence[str], shares: Sequence[float] = ()) -> None:
        """Appends a target, and the models to send to there; without ``shares`` in turn."""
        self._wake()
        self._sender.add_target(target, self._numbers(models), shares)

    def _numbers(self, models: Sequence[str]) -> list[int]:
        """The numbers of models; those that are new get the next ones."""
        new = [model for model in models if model not in self._models]
        self._models += new
        self._reporter.add_models(new)
        for prompts in self._prompt_sets:
            prompts.add_models(new)
        return [self._models.index(model) for model in models]

    def add_prompts(self, path: str, data: bytes | None) -> None:
        """Appends a set of prompts; :meth:`read_prompts` reads it."""
        self._wake()
        spec = self._spec
        prompts = Prompts(
            Path(path), self._models, spec.body, spec.extra, api=spec.api, data=data, whole=False
        )
        self._prompt_sets.append(prompts)
        self._sender.add_prompts(prompts)

    def read_prompts(self) -> bool:
        """Reads some of the prompts that were added, for about a millisecond; returns whether all are
        there."""
        number = self._reporter.prompt_sets
        if number < len(self._prompt_sets) and self._prompt_sets[number].read(_READ):
            self._reporter.prompt_sets += 1
        return self._reporter.prompt_sets == len(self._prompt_sets)

    def watch(self, fd: int, on_command: Callable[[], None]) -> bool:
        """Has ``on_command`` called when there are commands to be read from ``fd``, before what was
        scheduled is sent; below 0: no more. False: the loop has to do it."""
        return self._wire.watch(fd, on_command)

    def close(self) -> None:
        """Ends connections and timers."""
        self._pool.close()

    def _ended(self, record: Record) -> None:
        sender = self._sender
        self._reporter.note_ended(record)
        if sender.slots.size or sender.talks:
            sender.follow_up(record)
        if not (self._pool.busy or sender.sending):
            sender.check_drained(self._clock())

    def _dropped(self, record: Record) -> None:
        self._reporter.intended += 1
        self._ended(record)

    def _stopped(self) -> None:
        self._report(self._clock())
        self._on_stop()

    def _tick(self) -> None:
        if self._sender.stopped:
            return
        now, ticks = self._clock(), self._ticks
        self._reporter.loop_lags.append(now - ticks.next_ns)
        ticks.advance(now)
        self._wire.set_tick(ticks.next_ns)
        self._rests = False
        if ticks.sweep_due():
            limits = self._spec.timeouts
            self._pool.sweep(now, _ns(limits.connect_s), _opt_ns(limits.ttft_s), _opt_ns(limits.stall_s))
        if ticks.delta_due():
            now = self._clock()
            self._sender.send()  # so that nothing due by now is missing from the delta
            if not self._sender.stopped and self._has_news(now):
                self._report(now)
            self._rest(now)

    def _rest(self, now_ns: int) -> None:
        """Leaves out the ticks until the next delta, if nothing can happen meanwhile but for a command: then
        they would wake this process for nothing."""
        if self._sender.stopped or self._pool.busy or self._state(now_ns) != self._told:
            return
        ticks, reading = self._ticks, self._reporter.prompt_sets < len(self._prompt_sets)
        ticks.rest(self._told_tick + QUIET_TICKS)
        if reading or self._sender.next_ns(now_ns) <= ticks.next_ns:
            ticks.advance(now_ns)
            return
        self._rests = True
        self._wire.set_tick(ticks.next_ns)

    def _wake(self) -> None:
        """Ticks again, in case it rests."""
        if self._rests:
            self._rests = False
            self._ticks.advance(self._clock())
            self._wire.set_tick(self._ticks.next_ns)

    def _has_news(self, now_ns: int) -> bool:
        """Whether a delta would tell what the one before did not, or that one is a second old."""
        self._pool.reap()
        old = self._ticks.count - self._told_tick >= QUIET_TICKS
        return old or bool(self._pool.busy) or self._state(now_ns) != self._told

    def _state(self, now_ns: int) -> tuple[int, ...]:
        reporter, sender = self._reporter, self._sender
        counts = (reporter.intended, reporter.sent, reporter.finished, reporter.prompt_sets)
        return (*counts, len(self._pool.busy), sender.schedule.course.phase, sender.over(now_ns))

    def _report(self, now_ns: int) -> None:
        pool, sender = self._pool, self._sender
        pool.reap()
        self._told, self._told_tick = self._state(now_ns), self._ticks.count
        over = sender.over(now_ns)
        self._reporter.report(now_ns, pool.take(), len(pool.busy), sender.schedule.course.phase, over=over)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _opt_ns(seconds: float | None) -> int | None:
    return None if seconds is None else _ns(seconds)
