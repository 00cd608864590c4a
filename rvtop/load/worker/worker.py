"""A load worker: sends its share of the plan and tells the session what came of it.

It runs alone in its process (``python -m rvtop.load.worker.worker``; see ``worker_process``).
"""

from __future__ import annotations

import heapq
import resource
from array import array
from collections.abc import Callable, Sequence
from time import perf_counter_ns, process_time

import numpy as np

from rvtop.load.plan.followups import REST_NS, Cancels, Slots, Talk
from rvtop.load.plan.prompts import Prompts, Turn
from rvtop.load.plan.schedule import NEVER, Due, PhasePlan, PlanEvent, Schedule
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record, lines
from rvtop.load.wire.response_text import answer_text
from rvtop.load.worker.capacity import worker_files
from rvtop.load.worker.messages import Delta, Int64s, WorkerSpec
from rvtop.stats.histogram import Histogram
from rvtop.stats.slo import meets
from rvtop.text import printable_names

_TICK_NS = 100_000_000
_SWEEP_TICKS = 2
#: Ticks lie so long before tenths of the run's seconds: at the edges it would be chance for which second a
#: delta counts, and so the last of each has nearly all of it.
_TICK_LEAD_NS = 50_000_000
#: Requests are made ready so long before their time, so many at once, when the first of them is this near:
#: several at once cost less than each alone. A command takes back what it may change, and takes effect 50 ms
#: (``player.LEAD_NS``) after its making: …
_AHEAD_NS = 50_000_000
_SOON_NS = 10_000_000
_BATCH = 32
#: … before anything is sent, the last look at what has come is no older than this.
_HEARD_NS = 5_000_000

#: Lines are written so many at a time, as requests end: those of a tick at 1600 requests a second take 3 ms,
#: and tokens that nobody reads for so long come with the next ones.
_PART = 32

Emit = Callable[[Delta], None]


class Worker:
    """The share ``spec.index`` of ``spec.count`` of the load.

    ``emit`` gets a Delta every ``spec.tell_ticks``; ``on_stop`` is called once the command to stop was
    followed; ``poll_commands`` hands on the commands that have come; nothing is sent before it is known what
    they change. ``alone`` says whether the loop has nothing to do but this worker, which may then keep it for
    a while.
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
    ) -> None:
        self._spec = spec
        self._prompts = prompts
        self._target = target
        self._emit = emit
        self._on_stop = on_stop
        self._poll_commands = poll_commands
        self._heard_ns = 0  # when that was called last
        self._schedule = Schedule(spec.phases, spec.seed, spec.index, spec.count, prompts.at_s)
        self._names = [phase.name for phase in spec.phases]
        self._shown_models = printable_names(spec.models)  # requests carry the ids as the server named them
        self._slots = Slots()  # of a closed loop
        self._cancels = Cancels(spec.seed)
        self._talks: dict[Record, Talk] = {}  # conversations with a request in flight …
        # … and the turns that wait for their time, as a heap.
        self._turns: list[tuple[int, int, Talk, Turn]] = []
        self._log: list[PlanEvent] = []  # entries that are not in force yet
        self._plain = False  # what is sent in this phase follows from the plan alone
        self._pool = ConnectionPool(target, self._done, self._note_sent, alone)
        self._wire = self._pool.wire
        self._wire.call_when_due(self._send, self._tick)
        self._limit_connections()
        self._ticks = self._told_ticks = self._swept_ticks = 0  # since the run's start
        self._next_tick = 0
        self._arm_tick(perf_counter_ns())
        self._intended = self._sent = self._finished = 0
        self._held = [0] * len(spec.models)  # in flight, by model
        self._lags: list[int] = []
        self._ended: list[Record] = []
        self._written: list[bytes] = []  # lines of the first of them, _PART each
        self._loop_lags: list[int] = []
        self._told_drained = True
        self._sending = False  # in the middle of sending what is due
        self._stopped = False

    # -- commands ----------------------------------------------------------------------------

    def command(self, entry: PlanEvent) -> None:
        """Takes one entry of the command log; it takes effect at its time. Entries come in that order."""
        self._log.append(entry)
        back_ns = self._wire.unschedule(entry.at_ns)
        now = perf_counter_ns()
        if back_ns is not None:  # what it may change was made ready; or was sent, if it came late
            self._schedule.rewind(max(entry.at_ns, min(back_ns, now)))
        self._arm(now)

    def watch(self, fd: int, on_command: Callable[[], None]) -> bool:
        """Has ``on_command`` called when there are commands to be read from ``fd``, before what was made
        ready is sent; below 0: no more. False: the loop has to do it."""
        return self._wire.watch(fd, on_command)

    def add_phase(self, phase: PhasePlan) -> None:
        """One phase more, behind those that are known."""
        self._schedule.add_phase(phase)
        self._names.append(phase.name)

    def _arm(self, now_ns: int) -> None:
        at = min(
            self._wake_ns(now_ns),
            self._follow_up_ns(),
            self._cancels.next_ns,
            self._ending_ns(now_ns),
            self._log[0].at_ns if self._log else NEVER,
        )
        self._wire.set_due(at)

    def _wake_ns(self, now_ns: int) -> int:
        """When to send the next arrival, or to make it ready if nothing of the log comes before it."""
        at = self._schedule.next_ns
        if not self._plain or at >= (self._log[0].at_ns if self._log else NEVER):
            return at
        full = self._wire.scheduled >= self._schedule.most_ahead
        return at if full else max(at - _SOON_NS, now_ns)

    def _ending_ns(self, now_ns: int) -> int:
        """The end of the phase's arrivals, while it is ahead: past it, the last request to end tells."""
        end_ns = self._schedule.end_ns
        return end_ns if not self._told_drained and end_ns > now_ns else NEVER

    def _follow_up_ns(self) -> int:
        """When the next slot or turn may send; a pause holds them, and the phase's end leaves them out."""
        if self._schedule.paused:
            return NEVER
        at = min(self._slots.next_ns, self._turns[0][0] if self._turns else NEVER)
        return at if at < self._schedule.end_ns else NEVER

    # -- sending -----------------------------------------------------------------------------

    def _send(self) -> None:
        if self._stopped:
            return
        now = self._hear()
        self._sending = True
        while self._log and self._log[0].at_ns <= now and not self._stopped:
            entry = self._log.pop(0)
            self._send_due(entry.at_ns - 1)
            self._follow(entry)
        if self._stopped:  # what is due since the stop is not sent: nobody would hear of it
            return
        self._send_due(now)
        self._launch_due(now)
        self._sending = False
        self._tell_if_drained(now)
        self._arm(now)

    def _hear(self) -> int:
        """Takes the commands that have come, if it is long since the last look; returns the time now."""
        now = perf_counter_ns()
        if now - self._heard_ns > _HEARD_NS:
            self._heard_ns = now
            self._poll_commands()
        return now

    def _follow(self, entry: PlanEvent) -> None:
        if entry.kind == "cut":
            self._pool.cancel_all("unfinished", "cut by the end of the drain")
        elif entry.kind == "stop":
            self._stopped = True
            self._pool.cancel_all("cancelled", "the run was stopped")
            self._flush(perf_counter_ns())
            self._on_stop()
        else:
            self._schedule.apply(entry)
            self._limit_connections()
            plan = self._schedule.plan
            if entry.kind == "phase":
                self._told_drained = False
                self._turns.clear()
                # Where nothing follows from an end, it can wait for the next tick.
                follows = plan.concurrency or plan.max_in_flight is not None or self._prompts.most_turns > 1
                self._wire.deliver_now(bool(follows))
                self._plain = self._wire.can_schedule and not (follows or plan.cancel_share)
                limit = None if plan.limit is None else self._schedule.share(plan.limit, plan.concurrency)
                self._slots = Slots(left=limit)
                self._slots.resize(self._schedule.share(plan.concurrency), entry.at_ns)
            elif (
                entry.kind == "workers" and plan.limit is None
            ):  # a limit was shared out when the phase began
                self._slots.resize(self._schedule.share(plan.concurrency), entry.at_ns)
            elif entry.kind == "resume":
                self._slots.wait_until(entry.at_ns)

    def _limit_connections(self) -> None:
        """Holds no more connections than this process may open files, nor than its share of what the machine
        can hold: memory stays bounded, and the requests beyond it are counted as ``client_limit``."""
        most = worker_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if self._spec.most_in_flight is not None:
            most = min(most, max(1, self._schedule.share(self._spec.most_in_flight)))
        self._pool.most = most

    def _send_due(self, until_ns: int) -> None:
        for due in self._schedule.due(until_ns):
            self._send_one(due)
        while self._follow_up_ns() <= until_ns:
            if self._slots.next_ns <= until_ns:
                number = self._slots.number
                self._send_one(self._schedule.closed(number, self._slots.take()))
            else:
                at_ns, _, talk, turn = heapq.heappop(self._turns)
                self._send_turn(at_ns, talk, turn)
        for record in self._cancels.take(until_ns):
            self._pool.cancel(record, "cancelled", "given up by the client, as the scenario asks")

    def _launch_due(self, now_ns: int) -> None:
        """Makes the next arrivals ready, as far as what is known of the log can't change them."""
        if not self._plain or self._schedule.next_ns - _SOON_NS > now_ns:
            return
        until_ns = now_ns + _AHEAD_NS
        if self._log:
            until_ns = min(until_ns, self._log[0].at_ns - 1)
        room = self._schedule.most_ahead - self._wire.scheduled
        for due in self._schedule.due(until_ns, max(0, min(_BATCH, room))):
            self._send_one(due, ahead=True)

    def _send_one(self, due: Due, *, ahead: bool = False) -> None:
        models, prompts = len(self._spec.models), self._prompts
        number = due.arrival if self._schedule.plan.concurrency else due.seq
        model = number % models
        # Each model gets the same prompts, but a trace is one course of prompts in time.
        prompt = (number // models if prompts.at_s is None else due.arrival) % len(prompts)
        record = Record(due.seq * prompts.most_turns, due.phase, model, prompt, due.intended_ns)
        turns = prompts.turns.get(prompt)
        if prompts.most_turns > 1:
            record.turn = 0
        if turns:
            first = prompts.first_messages(prompt)
            talk = Talk(record.seq, prompt, model, due.phase, turns, first)
            self._talks[record] = talk
            if not turns[0].recorded:
                record.body = []
        body = prompts.body(prompt, model)
        if ahead:
            self._wire.schedule(record, self._target.request(body, f"rvtop-{record.seq}"), record.intended_ns)
        else:
            self._submit(record, body)

    def _send_turn(self, at_ns: int, talk: Talk, turn: Turn) -> None:
        record = Record(talk.number + talk.turn, talk.phase, talk.model, talk.prompt, at_ns)
        record.turn = talk.turn
        self._talks[record] = talk
        if talk.turn < len(talk.turns) and not talk.turns[talk.turn].recorded:
            record.body = []
        self._submit(record, self._prompts.turn_body(talk.messages, turn, talk.model))

    def _submit(self, record: Record, body: bytes) -> None:
        plan = self._schedule.plan
        limit = plan.max_in_flight
        if limit is not None and self._full(self._schedule.share(limit)):
            self._intended += 1
            record.fail("dropped", f"max_in_flight {limit} was reached")
            self._done(record)
            return
        self._pool.submit(record, self._target.request(body, f"rvtop-{record.seq}"))
        if plan.cancel_share:
            self._cancels.add(record, plan.cancel_share, round(plan.cancel_after_s * 1e9))

    def _full(self, limit: int) -> bool:
        if len(self._pool.busy) >= limit:
            self._pool.reap()  # one that has ended in this turn is in flight no more
        return len(self._pool.busy) >= limit

    def _note_sent(self, record: Record) -> None:
        self._intended += 1
        self._sent += 1
        self._held[record.model] += 1
        self._lags.append(record.sent_ns - record.intended_ns)

    def _done(self, record: Record) -> None:
        self._finished += 1
        if record.sent_ns:
            self._held[record.model] -= 1
        self._ended.append(record)
        if len(self._ended) >= (len(self._written) + 1) * _PART:
            self._write_part()
        if self._slots.size or self._talks:
            self._go_on(record)
        if not (self._pool.busy or self._sending):
            self._tell_if_drained(perf_counter_ns())

    def _go_on(self, record: Record) -> None:
        """What follows ``record``: the next turn of its conversation, or its slot's next request."""
        now = perf_counter_ns()
        talk = self._talks.pop(record, None)
        if record.phase != self._schedule.phase:
            return
        turn = None
        if talk is not None and record.error is None:
            turn = talk.next(answer_text(record.body or ()))
            record.body = None
        if talk is not None and turn is not None:
            at_ns = now + round(turn.delay_s * 1e9)
            heapq.heappush(self._turns, (at_ns, record.seq, talk, turn))
        elif self._slots.size:
            self._slots.free(now if record.error is None else now + REST_NS)
        if not self._sending:
            self._arm(now)

    # -- telling -----------------------------------------------------------------------------

    def _tell_if_drained(self, now_ns: int) -> None:
        self._pool.register_sent()
        if not self._told_drained and self._over(now_ns):
            self._told_drained = True
            self._flush(now_ns)

    def _over(self, now_ns: int) -> bool:
        """Whether nothing of the phase is left to send, and nothing in flight."""
        schedule = self._schedule
        if self._pool.busy or self._wire.scheduled or schedule.phase < 0:
            return False
        if now_ns >= schedule.end_ns:
            return schedule.next_ns == NEVER
        if schedule.plan.concurrency:
            return self._slots.left == 0 and not self._turns
        return schedule.exhausted(now_ns) and not self._turns

    def _tick(self) -> None:
        if self._stopped:
            return
        now = perf_counter_ns()
        self._loop_lags.append(now - self._next_tick)
        self._arm_tick(now)
        if self._ticks - self._swept_ticks >= _SWEEP_TICKS:
            self._swept_ticks = self._ticks
            limits = self._spec.timeouts
            self._pool.sweep(now, _ns(limits.connect_s), _opt_ns(limits.ttft_s), _opt_ns(limits.stall_s))
        if self._ticks - self._told_ticks >= self._spec.tell_ticks:
            self._told_ticks = self._ticks - self._ticks % self._spec.tell_ticks
            self._tell()

    def _arm_tick(self, now_ns: int) -> None:
        since_ns = now_ns - self._spec.t0_ns + _TICK_LEAD_NS
        self._ticks = since_ns // _TICK_NS
        self._next_tick = now_ns + _TICK_NS - since_ns % _TICK_NS
        self._wire.set_tick(self._next_tick)

    def _tell(self) -> None:
        now = perf_counter_ns()
        self._send()  # so that nothing due by now is missing from what is told now
        if not self._stopped:
            self._flush(now)

    def _write_part(self) -> None:
        """Writes the lines of the next few requests that have ended, or of the last."""
        spec, begin = self._spec, len(self._written) * _PART
        part = self._ended[begin : begin + _PART]
        self._written.append(lines(part, spec.t0_ns, self._names, self._shown_models, spec.index))

    def _flush(self, now_ns: int) -> None:
        pool, spec = self._pool, self._spec
        pool.reap()
        while len(self._ended) > len(self._written) * _PART:
            self._write_part()
        ended, self._ended = self._ended, []
        written, self._written = self._written, []
        lags, self._lags = self._lags, []
        fresh = pool.take()
        ok = [r for r in ended if r.error is None]
        counted = [r for r in ok if r.output_tokens is not None]
        errors: dict[str, int] = {}
        for record in ended:
            if record.error is not None:
                errors[record.error] = errors.get(record.error, 0) + 1
        ttft = _array([r.first_ns - r.intended_ns for r in ok])
        e2e = _array([r.last_ns - r.intended_ns for r in ok])
        tokens = _array([r.tokens for r in ok])
        several = tokens > 1
        loop_lags, self._loop_lags = self._loop_lags, []
        delta = Delta(
            worker=spec.index,
            t_ns=now_ns,
            phase=self._schedule.phase,
            intended=self._intended,
            sent=self._sent,
            done=self._finished,
            in_flight=len(pool.busy),
            in_flight_by_model=tuple(self._held),
            lag_ns=_array(lags),
            ttft_ns=_array(fresh.ttft_ns),
            e2e_ns=e2e,
            gaps=Histogram.of(fresh.gaps_ns),
            chunks=len(fresh.gaps_ns) + len(fresh.ttft_ns),
            ok=len(ok),
            good=int(meets(ttft, e2e, tokens, spec.slo_ns).sum()) if spec.slo_ns else 0,
            counted_tokens=sum(r.output_tokens or 0 for r in counted),
            counted_chunks=sum(r.chunks for r in counted),
            tokens=int(tokens.sum()),
            errors=errors,
            lines=b"".join(written),
            loop_lag_ns=_array(loop_lags),
            cpu_s=process_time(),
            tpot_ns=(e2e - ttft)[several] // (tokens[several] - 1),
            over=self._over(now_ns),
        )
        self._emit(delta)

    def close(self) -> None:
        """Ends connections and timers."""
        self._pool.close()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _opt_ns(seconds: float | None) -> int | None:
    return None if seconds is None else _ns(seconds)


def _array(values: Sequence[int] | array[int]) -> Int64s:
    return np.asarray(values, dtype=np.int64)


if __name__ == "__main__":
    from rvtop.load.worker.process import main

    main()
