"""From the plan to the wire: sends what the schedule, the command log and the ends of requests ask for.

The sender looks at its clock alone and arms one timer, ``wire.set_due``, for whatever comes next.
"""

from __future__ import annotations

import heapq
import resource
from collections.abc import Callable, Sequence
from time import perf_counter_ns

from rvtop.load.plan.followups import REST_NS, Cancels, Slots
from rvtop.load.plan.limits import worker_files
from rvtop.load.plan.mix import Mix
from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import NEVER, Due, Lengths, PhasePlan, PlanEvent, Schedule
from rvtop.load.plan.steps import Talk
from rvtop.load.wire import traceparent
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.paired import PairedPool
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import answer_text
from rvtop.load.worker.messages import WorkerSpec
from rvtop.load.worker.pairs import Pairs

#: Requests are scheduled this long before their time, this many at once, when the first of them is this near:
#: several at once cost less than each alone. A command unschedules what it may change, and takes effect 50 ms
#: (``player.LEAD_NS``) after it was given: …
_AHEAD_NS = 50_000_000
_SOON_NS = 10_000_000
_BATCH = 32
#: … before anything is sent, pending commands were polled for no longer ago than this.
POLL_NS = 5_000_000


class Sender:
    """Sends one worker's share of the load through ``pool``.

    ``on_dropped(record)``: a request was not sent, because of the phase's ``max_in_flight``.
    ``on_drained(now_ns)``: the phase has nothing left to send, and nothing in flight; once for each phase.
    ``on_stop()``: the command to stop was followed; nothing is sent any more.
    ``poll_commands`` applies pending commands by :meth:`command`; called before each send. ``clock`` returns
    nanoseconds of ``perf_counter_ns``.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        prompts: Prompts,
        target: Endpoint,
        pool: ConnectionPool,
        *,
        on_dropped: Callable[[Record], None],
        on_drained: Callable[[int], None],
        on_stop: Callable[[], None],
        poll_commands: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._spec = spec
        self._prompts = prompts
        self._prompt_sets = [prompts]
        self._mix = Mix(spec.shares, spec.seed)
        models: Sequence[int] = range(len(spec.models))
        self._targets = [(target, models, self._mix)]
        self._traces = int(spec.traces, 16) if spec.traces else 0
        self._number = 0  # of the target in force …
        self._target, self._models = self._targets[0][:2]  # … which serves these of the models
        self._pool = pool
        self._wire = pool.wire
        self._on_dropped = on_dropped
        self._on_drained = on_drained
        self._on_stop = on_stop
        self._poll_commands = poll_commands
        self._clock = clock
        self._polled_ns = 0  # the last poll_commands
        self._log: list[PlanEvent] = []  # entries that are not in force yet
        self._by_plan = False  # what is sent in this phase follows from the plan alone
        self._drained = True
        self._pairs: Pairs | None = None  # every request goes to two targets
        self._cancels = Cancels(spec.seed)
        self._name = spec.name
        self._run = b"%b-%x" % (spec.name.encode(), spec.t0_ns)  # what its conversations are named by
        self._turns: list[tuple[int, int, Talk]] = []  # (time, request's number) that wait, as a heap
        self.schedule = Schedule(spec.phases, spec.seed, spec.index, spec.count, prompts.at_s)
        self._course = self.schedule.course
        self.slots = Slots()  # of a closed loop
        self.talks: dict[Record, Talk] = {}  # conversations with a request in flight
        self.sending = False  # in the middle of sending what is due
        self.stopped = False
        self._limit_connections()

    # -- commands ----------------------------------------------------------------------------

    def command(self, entry: PlanEvent) -> None:
        """Takes one entry of the command log; it takes effect at its time. Entries come in that order."""
        self._log.append(entry)
        first_ns = self._wire.unschedule(entry.at_ns)
        now = self._clock()
        if first_ns is not None:  # what it may change was scheduled; or was sent, if the command came late
            self.schedule.rewind(max(entry.at_ns, min(first_ns, now)))
        self._arm(now)

    def add_phase(self, phase: PhasePlan) -> None:
        """Appends a phase."""
        self._course.add_phase(phase)

    def add_target(self, target: Endpoint, models: Sequence[int], shares: Sequence[float] = ()) -> None:
        """Appends a target: ``models`` are the numbers of those to send to; without ``shares`` in turn."""
        self._targets.append((target, models, Mix(shares, self._spec.seed)))

    def pair_with(self, target: Endpoint, models: Sequence[int], pool: PairedPool) -> None:
        """Appends a target to which each request goes too, over ``pool``, from now on."""
        self.add_target(target, models)
        self._pairs = Pairs(pool, (self._targets[0][:2], self._targets[1][:2]), self._spec, self._request)

    def add_prompts(self, prompts: Prompts) -> None:
        """Appends a set of prompts, which may be read later."""
        self._prompt_sets.append(prompts)

    def _arm(self, now_ns: int) -> None:
        self._wire.set_due(self.next_ns(now_ns))

    def next_ns(self, now_ns: int) -> int:
        """When there is something to do, unless a command or the end of a request brings it before."""
        return min(
            self._wake_ns(now_ns),
            self._follow_up_ns(),
            self._cancels.next_ns,
            self._ending_ns(now_ns),
            self._log[0].at_ns if self._log else NEVER,
        )

    def _wake_ns(self, now_ns: int) -> int:
        """When to send the next arrival, or to schedule it if nothing of the log comes before it."""
        at = self.schedule.next_ns
        if not self._by_plan or at >= (self._log[0].at_ns if self._log else NEVER):
            return at
        full = self._wire.scheduled >= self.schedule.most_ahead
        return at if full else max(at - _SOON_NS, now_ns)

    def _ending_ns(self, now_ns: int) -> int:
        """The end of the phase's arrivals, while it is ahead: past it, the phase drains with its last
        request."""
        end_ns = self._course.end_ns
        return end_ns if not self._drained and end_ns > now_ns else NEVER

    def _follow_up_ns(self) -> int:
        """When the next slot or turn may send; a pause holds them, and the phase's end leaves them out. The
        steps of tasks go on in the drain."""
        if self._course.paused:
            return NEVER
        slot, turn = self.slots.next_ns, self._turns[0][0] if self._turns else NEVER
        if self._prompts.tasks:
            return min(slot if slot < self._course.end_ns else NEVER, turn)
        at = min(slot, turn)
        return at if at < self._course.end_ns else NEVER

    # -- sending -----------------------------------------------------------------------------

    def send(self) -> None:
        """Follows the log and sends what is due, and schedules what is due soon."""
        if self.stopped:
            return
        now = self._poll()
        self.sending = True
        while self._log and self._log[0].at_ns <= now and not self.stopped:
            entry = self._log.pop(0)
            self._send_due(entry.at_ns - 1)
            self._follow(entry)
        if self.stopped:  # what came due since the stop is not sent: its end would not be reported
            return
        self._send_due(now)
        self._schedule_due(now)
        self.sending = False
        self.check_drained(now)
        self._arm(now)

    def _poll(self) -> int:
        """Applies pending commands, if the last look is long ago; returns the time now."""
        now = self._clock()
        if now - self._polled_ns > POLL_NS:
            self._polled_ns = now
            self._poll_commands()
        return now

    def _follow(self, entry: PlanEvent) -> None:
        if entry.kind == "cut":
            self._turns.clear()
            self._pool.cancel_all("unfinished", "cut by the end of the drain")
        elif entry.kind == "cancel":
            self._pool.cancel_in_flight("cancelled", "all in flight were cancelled by a command")
        elif entry.kind == "stop":
            self.stopped = True
            self._pool.cancel_all("cancelled", "the run was stopped")
            self._on_stop()
        elif entry.kind == "target":
            self._retarget(int(entry.value))
        elif entry.kind == "workload":
            lengths = entry.lengths or Lengths()
            self._prompts = self._prompt_sets[lengths.prompts]
            self._prompts.read()  # what of them is not read yet
            self._prompts.limit_output(lengths.max_tokens)
        else:
            self.schedule.apply(entry)
            self._limit_connections()
            plan = self._course.plan
            if entry.kind == "phase":
                self._begin_phase(plan, entry.at_ns)
            elif (
                entry.kind == "workers" and plan.limit is None
            ):  # a limit was shared out when the phase began
                self.slots.resize(self.schedule.share(plan.concurrency), entry.at_ns)
            elif entry.kind == "resume":
                self.slots.wait_until(entry.at_ns)

    def _retarget(self, number: int) -> None:
        """Sends to another target from here on; conversations with the one before are not continued."""
        self._number = number
        self._target, self._models, self._mix = self._targets[number]
        self._turns.clear()
        self._pool.retarget(self._target)

    def _begin_phase(self, plan: PhasePlan, at_ns: int) -> None:
        self._drained = False
        self._turns.clear()
        # Where nothing follows from the end of a request, it can wait for the next tick.
        follows = plan.concurrency or plan.max_in_flight is not None or self._prompts.most_turns > 1
        follows = follows or self._prompts.tasks
        self._wire.deliver_now(bool(follows))
        self._by_plan = self._wire.can_schedule and not (follows or plan.cancel_share or self._pairs)
        if self._pairs is not None:
            self._pairs.begin_phase(plan.name)
        limit = None if plan.limit is None else self.schedule.share(plan.limit, plan.concurrency)
        self.slots = Slots(left=limit)
        self.slots.resize(self.schedule.share(plan.concurrency), at_ns)

    def _limit_connections(self) -> None:
        """Holds no more connections than this process may open files, nor than its share of what the machine
        can hold: memory stays bounded, and the requests beyond it are counted as ``client_limit``."""
        most = worker_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if self._spec.most_in_flight is not None:
            most = min(most, max(1, self.schedule.share(self._spec.most_in_flight)))
        self._pool.most = most

    def _send_due(self, until_ns: int) -> None:
        for due in self.schedule.due(until_ns):
            self._send_one(due)
        while self._follow_up_ns() <= until_ns:
            if self.slots.next_ns <= min(until_ns, self._course.end_ns - 1):
                number = self.slots.number
                self._send_one(self.schedule.closed(number, self.slots.take()))
            else:
                at_ns, number, talk = heapq.heappop(self._turns)
                self._send_turn(at_ns, number - talk.number, talk)
        for record in self._cancels.take(until_ns):
            self._pool.cancel(record, "cancelled", "given up by the client, as the scenario asks")

    def _schedule_due(self, now_ns: int) -> None:
        """Schedules the next arrivals, as far as the entries of the log can't change them."""
        if not self._by_plan or self.schedule.next_ns - _SOON_NS > now_ns:
            return
        until_ns = now_ns + _AHEAD_NS
        if self._log:
            until_ns = min(until_ns, self._log[0].at_ns - 1)
        room = self.schedule.most_ahead - self._wire.scheduled
        for due in self.schedule.due(until_ns, max(0, min(_BATCH, room))):
            self._send_one(due, ahead=True)

    def _send_one(self, due: Due, *, ahead: bool = False) -> None:
        prompts = self._prompts
        number = due.arrival if self._course.plan.concurrency else due.seq
        if self._pairs is not None:
            self._pairs.send(due, prompts, number)
            return
        place, prompt = self._mix.of(number, len(self._models))
        model = self._models[place]
        # A trace is one course of prompts in time.
        prompt = (prompt if prompts.at_s is None else due.arrival) % len(prompts)
        record = Record(due.seq * prompts.most_turns, due.phase, model, prompt, due.intended_ns)
        record.target = self._number
        steps = prompts.steps.get(prompt)
        if prompts.most_turns > 1 or prompts.tasks:
            record.turn = 0
        if steps is not None:
            first = prompts.first_messages(prompt)
            self._follow_talk(record, Talk(record.seq, prompt, model, due.phase, steps, first))
        body = prompts.body(prompt, model)
        if ahead:
            self._wire.schedule(record, self._request(record, body), record.intended_ns)
        else:
            self._submit(record, body)

    def _send_turn(self, at_ns: int, number: int, talk: Talk) -> None:
        record = Record(talk.number + number, talk.phase, talk.model, talk.prompt, at_ns)
        record.turn = number
        record.target = self._number
        self._follow_talk(record, talk)
        turn = talk.steps.turns[number - 1]
        self._submit(record, self._prompts.turn_body(talk.messages(number), turn, talk.model))

    def _follow_talk(self, record: Record, talk: Talk) -> None:
        """Other requests may follow this one."""
        self.talks[record] = talk
        steps, number = talk.steps, record.turn or 0
        if steps.keeps[number]:
            record.body = []
        if steps.facts is not None:
            record.task = steps.facts[number]

    def _submit(self, record: Record, body: bytes) -> None:
        plan = self._course.plan
        limit = plan.max_in_flight
        if limit is not None and self._full(self.schedule.share(limit)):
            record.fail("dropped", f"max_in_flight {limit} was reached")
            self._on_dropped(record)
            return
        self._pool.submit(record, self._request(record, body))
        if plan.cancel_share:
            self._cancels.add(record, plan.cancel_share, round(plan.cancel_after_s * 1e9))

    def _request(self, record: Record, body: bytes, target: Endpoint | None = None) -> bytes:
        more = traceparent.header(self._traces, record.seq) if self._traces else b""
        if record.turn is not None:  # a server that splits a name keeps the conversation on one arm
            more += b"\r\nX-Session-Id: %b-%d" % (self._run, record.seq - record.turn)
        return (target or self._target).request(body, f"{self._name}-{record.seq}", more)

    def _full(self, limit: int) -> bool:
        if len(self._pool.busy) >= limit:
            self._pool.reap()  # one that has ended in this turn is in flight no more
        return len(self._pool.busy) >= limit

    # -- the ends of requests ----------------------------------------------------------------

    def follow_up(self, record: Record) -> None:
        """What follows ``record``, which has ended: the next turn of its conversation, or its slot's next
        request."""
        now = self._clock()
        talk = self.talks.pop(record, None)
        if record.phase != self._course.phase:
            return
        if talk is not None:
            self._follow_in(talk, record, now)
            record.body = None
        if (talk is None or not talk.open) and self.slots.size:
            self.slots.free(now if record.error is None else now + REST_NS)
        if not self.sending:
            self._arm(now)

    def _follow_in(self, talk: Talk, record: Record, now_ns: int) -> None:
        """Notes what follows ``record`` in its conversation or task; nothing does where a request of it
        failed."""
        if talk.failed or record.error is not None or record.target != self._number:
            talk.gave_up()
            waiting = [one for one in self._turns if one[2] is talk]  # other branches
            if waiting:
                talk.open -= len(waiting)
                self._turns = [one for one in self._turns if one[2] is not talk]
                heapq.heapify(self._turns)
            return
        for number in talk.ended(record.turn or 0, answer_text(record.body or ())):
            at_ns = now_ns + round(talk.steps.turns[number - 1].delay_s * 1e9)
            heapq.heappush(self._turns, (at_ns, talk.number + number, talk))

    def check_drained(self, now_ns: int) -> None:
        """Calls ``on_drained`` if the phase has drained since the last call."""
        self._pool.register_sent()
        if not self._drained and self.over(now_ns):
            self._drained = True
            self._on_drained(now_ns)

    def over(self, now_ns: int) -> bool:
        """Whether nothing of the phase is left to send, and nothing in flight."""
        schedule, course = self.schedule, self._course
        if self._pool.busy or self._wire.scheduled or course.phase < 0:
            return False
        if now_ns >= course.end_ns:
            return schedule.next_ns == NEVER and not (self._prompts.tasks and self._turns)
        if course.plan.concurrency:
            return self.slots.left == 0 and not self._turns
        return schedule.exhausted(now_ns) and not self._turns
