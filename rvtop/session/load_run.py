"""The load of one session while it runs: commands and the plan go to the workers, their deltas come back.

It begins when the workers stand by and is over when the plan is, or when the session's ``Ending`` wants it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter_ns
from typing import Any

from rvtop.contract.command import Command, CommandError, NextPhase, Pause, Resume
from rvtop.load.fleet.fleet import WorkerFleet
from rvtop.load.fleet.local import PoolError
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.worker.messages import AddPhase, AddTarget, Delta, Message, WorkerSpec
from rvtop.results.environment import write_clocks
from rvtop.session.find_max import Searcher
from rvtop.session.live import SECOND_NS, LiveState, fold
from rvtop.session.load_parts import Parts, Second
from rvtop.session.otlp import SpanSender
from rvtop.session.phase_knobs import PhaseKnobs
from rvtop.session.player import LEAD_NS, Player
from rvtop.session.probes import ProbeRun
from rvtop.session.rate_control import Done, RateControl
from rvtop.session.request_log import RequestLog
from rvtop.session.setup import fields_of
from rvtop.session.view import SeriesLog, timeline_row
from rvtop.session.watches import Watches
from rvtop.text import phase_words, printable_names

#: Why nothing can be commanded in a state of the player.
_NOT_NOW = {
    "idle": "the load has not begun",
    "draining": "the phase drains; commands count once the next one has begun",
    "cutting": "the phase drains; commands count once the next one has begun",
    "over": "the load is over",
}


class LoadRun:
    """``t0_ns`` is the run's start (perf_counter). Without ``fleet`` nothing is sent. ``observers`` are
    called with each second, in their order."""

    def __init__(self, parts: Parts, phases: tuple[PhasePlan, ...], t0_ns: int, *, search: bool) -> None:
        self._request = parts.request
        self._wakeup = parts.wakeup
        self._feed = parts.feed
        self._ending = parts.ending
        self._recorder = parts.recorder
        self._target = parts.target
        self._figures = parts.figures
        self._played = parts.played
        self._models = printable_names(parts.target.models)
        self._last_second = 0
        self._refused = False  # a search on a server that refuses all
        self.t0_ns = t0_ns
        self.live = LiveState(t0_ns)
        lead_s = max(0, t0_ns - parts.feed.began_ns) // SECOND_NS
        #: What the charts count from, as events and snapshots do: the session's start, to a second.
        self.charts_t0_ns = t0_ns - lead_s * SECOND_NS
        self.series = SeriesLog(lead_s)
        self.request_log = RequestLog(t0_ns, time.time() - (perf_counter_ns() - t0_ns) / 1e9)
        self.spans: SpanSender | None = None
        self.searcher: Searcher | None = None
        if search and self._request.search is not None:
            workers, say = str(self._request.workers), partial(self._feed.say, kind="search")
            self.searcher = Searcher(self._request.search, self._recorder.note, say, workers)
        self.knobs = PhaseKnobs(parts)
        further = self._next_step if self.searcher is not None else None
        self.player = Player(phases, further, self.knobs.ready)
        self.rate_control = RateControl(phases, self._request.max_rate, self.issue, self._feed.say)
        self.fleet: WorkerFleet | None = None
        self.spec: WorkerSpec | None = None  # of its workers
        self.probes: ProbeRun | None = None  # beside it
        self.watches = Watches(parts, self.live, self.player)
        self._targets = 1
        self.held = ""  # why nothing may be sent before `go_on`
        self._paused_by_hand = False
        self.on_lines = [self.watches.tasks.take]  # called with the lines of each delta
        self.observers: list[Callable[[Second], None]] = [
            self.watches.judge,
            self._record_second,
            lambda second: self.request_log.end_second(second.now_ns),
            self._size_fleet,
            lambda second: self._target.check(self.live, second.now_ns),
            self._judge_step,
            self.watches.look,
        ]

    # -- from outside ------------------------------------------------------------------------

    def command(self, command: Command, by: str) -> Done:
        """Follows a command of ``by``. Raises CommandError for one that makes no sense now."""
        self.check_now()
        if self.held and isinstance(command, Resume | NextPhase):
            raise CommandError(self.held)
        now = perf_counter_ns()
        if isinstance(command, NextPhase):
            done = self._end_phase(command, now, by)
        else:
            done = self.rate_control.follow(command, now, by)
        self._wakeup.set()
        return done

    def check_now(self, *, draining: bool = False) -> None:
        """Raises CommandError where nothing can be commanded. ``draining``: the drain of a phase is no
        hindrance."""
        state = self.player.state
        if state != "sending" and not (draining and state in ("draining", "cutting")):
            raise CommandError(_NOT_NOW[state])
        if not self.going:
            raise CommandError("the run is ending")

    def hand_out(self, message: Message) -> None:
        """Hands what entries of the plan may name to the workers."""
        assert self.fleet is not None
        self.fleet.send(message)

    def hold(self, why: str, by: str) -> None:
        """Pauses the load; the plan's clock stands still until `go_on` after `go_over`. ``why`` answers
        whoever wants it to go on before. Raises CommandError where there is no phase that sends."""
        self.check_now()
        self.held, self._paused_by_hand = why, self.rate_control.paused
        self.player.hold()
        if self.probes is not None:
            self.probes.hold()
        if not self.rate_control.paused:
            self.rate_control.follow(Pause(), perf_counter_ns(), by)
            self._wakeup.set()

    def go_on(self, by: str) -> None:
        """The load that was held goes on, unless it was paused before."""
        self.held = ""
        if self.probes is not None:
            self.probes.go_on()
        if not self._paused_by_hand and self.rate_control.paused:
            self.rate_control.follow(Resume(), perf_counter_ns(), by)
            self._wakeup.set()

    @property
    def target_number(self) -> int:
        """The number of the target that new requests go to, or will at once."""
        return self._targets - 1

    def go_over(self, target: AddTarget, url: str, by: str, how: Mapping[str, Any] | None = None) -> int:
        """Sends the load to a further target; the phase that runs begins anew there, at the rate that is in
        force, paused if it is paused. ``how`` it was started, if we did. Returns when that takes effect."""
        names = printable_names(target.models)
        self._models += tuple(name for name in names if name not in self._models)
        self.hand_out(target)
        number, self._targets = self._targets, self._targets + 1
        carry = self.rate_control.carry_over()
        told = {"url": url, "models": list(names), **(how or {})}

        def behind(at_ns: int) -> None:
            if self.probes is not None:
                self.probes.go_over(target, at_ns)
            carry(at_ns, by)

        return self._begin_anew(
            self.player.repeat("target"),
            by,
            lambda at_ns: self.issue(PlanEvent(at_ns, "target", number), by, told),
            behind,
        )

    def begin_anew(self, phase: PhasePlan, by: str) -> int:
        """The phase that sends begins anew as ``phase``, paused if it is paused; what is in flight ends as it
        would have. Returns when that takes effect."""
        return self._begin_anew(self.player.repeat("again", phase), by)

    def _begin_anew(
        self,
        phase: PhasePlan,
        by: str,
        before: Callable[[int], None] = lambda at_ns: None,
        behind: Callable[[int], None] = lambda at_ns: None,
    ) -> int:
        """Begins ``phase``, with the entries of ``before`` and ``behind`` at its time; returns that."""
        paused = self.rate_control.paused
        self._add_phase(phase)
        entry = self.player.begin_next(perf_counter_ns())
        before(entry.at_ns)
        self.issue(entry, by)
        behind(entry.at_ns)
        if paused:
            self.rate_control.paused = True
            self.issue(PlanEvent(entry.at_ns, "pause"), by)
        self._wakeup.set()
        return entry.at_ns

    def hold_prompts(self, sets: int) -> bool:
        """Whether each worker has read so many sets of prompts."""
        assert self.fleet is not None
        deltas = [self.live.latest.get(i) for i in range(self.fleet.count) if i not in self.fleet.lost]
        return all(delta is not None and delta.prompt_sets >= sets for delta in deltas)

    def _end_phase(self, command: NextPhase, now_ns: int, by: str) -> Done:
        phase = self.player.phase
        assert phase is not None
        again = command.to == "again"
        if again and self.searcher is not None:
            raise CommandError("phase again: --find-max chooses its steps itself")
        if again:
            self._add_phase(self.player.repeat())
        entry = self.player.end_phase(now_ns)
        assert entry is not None
        self.issue(entry, by)
        ends = f"phase {phase_words(phase.name)} ends"
        return Done(ends + (", and begins again" if again else ""), entry.at_ns)

    def _add_phase(self, phase: PhasePlan) -> None:
        """One phase more; the workers know it before it begins."""
        assert self.fleet is not None
        self.fleet.send(AddPhase(phase))
        self.rate_control.add_phase(phase)

    @property
    def going(self) -> bool:
        """Whether there is more to send, and nothing that ends the run."""
        return self.player.state != "over" and not self._ending.wanted and not self._refused

    def in_flight_by_model(self) -> dict[str, int]:
        """Requests sent and not ended, by the model's name as it is shown."""
        return self.live.in_flight_by_model(self._models)

    # -- the loop ----------------------------------------------------------------------------

    async def play(self) -> None:
        """Plays the plan until it is over, or something ends it."""
        await self.knobs.prepare(next(iter(self.player.coming), None))
        if self.probes is not None:
            self.probes.begin()
        while self.going:
            self.advance()
            if self.going:
                await self._wakeup.sleep_until(self._next_ns)

    async def drain(self) -> None:
        """Stops the workers and takes in what they still had to say."""
        assert self.fleet is not None
        # While requests are sent, the end has its lead too: nothing is sent behind it, so the log is the run.
        lead = LEAD_NS if self.player.state == "sending" else 0
        cancelled = self.live.errors["cancelled"]
        by = self._ending.stopped_by or "scenario"
        self.issue(PlanEvent(perf_counter_ns() + lead, "stop"), by)
        await self.fleet.drain()
        if self.probes is not None:
            await self.probes.drain()
        await self.knobs.close()
        self._ending.in_flight += self.live.errors["cancelled"] - cancelled + self.live.in_flight
        if clocks := self.fleet.clocks:  # measured again since the start: how they drifted is known now
            self._recorder.write(lambda log: write_clocks(log.folder, clocks))
        self._end_second(perf_counter_ns(), last=True)

    @property
    def _next_ns(self) -> int:
        """When there is something to do, unless the session is woken before."""
        second_ns = self.t0_ns + (self._last_second + 1) * SECOND_NS
        return min(second_ns, self.player.next_ns, self.rate_control.next_ns)

    def advance(self) -> None:
        """Does what is to be done by now."""
        now, before = perf_counter_ns(), (self.player.state, self.player.index)
        in_force = self.rate_control.take_effect(now)
        if any(entry.kind == "phase" for entry in in_force):
            self.live.begin_phase()
        assert self.fleet is not None
        self._add_worker(now)
        drained = self.fleet.drained(self.live.latest, self.player.index)
        due = self.player.step(now, drained)
        if due is not None:
            if due.kind == "phase":
                name = phase_words(self.player.phases[int(due.value)].name)
                self._feed.say(f"phase {name} begins", kind="phase")
            elif due.kind == "cut":
                self._feed.say(f"{self.live.in_flight} requests cut at the end of the drain", "warn", "phase")
            self.issue(due)
        if (now - self.t0_ns) // SECOND_NS != self._last_second:
            self._end_second(now)  # which is drawn where it shows anything new
        if in_force or (self.player.state, self.player.index) != before:
            self._feed.touch()

    def issue(
        self, entry: PlanEvent | None, by: str = "scenario", more: Mapping[str, Any] | None = None
    ) -> None:
        """Sends an entry of the plan to the workers, and notes it in the command log, with who wanted it and
        ``more``."""
        if entry is None or self.fleet is None:
            return
        self.fleet.send(entry)
        self.rate_control.note(entry)
        self._played.note(entry, self.player.phases)
        fields = {**fields_of(entry, self.t0_ns, self.player.phases), **(more or {}), "by": by}
        self._recorder.write(lambda log: log.command(fields))
        self._feed.touch()

    def _next_step(self) -> PhasePlan | None:
        """The next phase of a search; the workers know it before it begins."""
        assert self.searcher is not None and self.fleet is not None
        self.searcher.observe(self.live, perf_counter_ns(), self.player.start_ns)
        phase = self.searcher.more(self.live)
        if phase is not None:
            self._add_phase(phase)
        return phase

    def _add_worker(self, now_ns: int) -> None:
        """Gives its share to a load worker that was added and stands by now."""
        assert self.fleet is not None
        try:
            count = self.fleet.joined()
        except PoolError as error:
            self._feed.say(str(error), "warn", "worker")
            return
        if count is not None:
            self.issue(PlanEvent(now_ns + LEAD_NS, "workers", count), "autoscale")
            self._feed.say(f"load worker {count - 1} joins: {self.fleet.why}", kind="worker")

    # -- what the workers report -------------------------------------------------------------

    def on_delta(self, delta: Delta) -> None:
        """Takes in what one worker did since its last delta."""
        self._recorder.write(lambda log: log.requests(delta.lines))
        self.request_log.add(delta.lines, delta.t_ns)
        if self.spans is not None:
            self.spans.add(delta.lines)
        for take in self.on_lines:
            take(delta.lines)
        before = self.live.latest.get(delta.worker)
        fold(self.live, delta)
        # What a kill -9 would take with it: the requests that have no line yet.
        held = {"in_flight": self.live.in_flight, "by_model": self.in_flight_by_model()}
        t_s = (delta.t_ns - self.t0_ns) / 1e9
        self._recorder.write(lambda log: log.heartbeat({"t_s": t_s, **held}))
        self._target.on_delta(delta)
        if delta.tells_more_than(before):
            self._feed.touch()
        if delta.over or (self.fleet is not None and self.fleet.adding):
            self._wakeup.set()

    def on_lost_worker(self, index: int, why: str) -> None:
        """A worker died; what it held is lost, and the run is not sound any more."""
        last = self.live.latest.get(index)
        in_flight = last.in_flight if last else 0
        by_model = dict(zip(self._models, last.in_flight_by_model, strict=False)) if last else {}
        self.live.lose(index)
        text = f"load worker {index} died ({why}); {in_flight} requests in flight lost"
        self._feed.say(text, "error", "worker")
        self._recorder.note(
            {"cmd": "worker_lost", "worker": index, "in_flight": in_flight, "by_model": by_model}
        )
        self._ending.in_flight += in_flight
        self._ending.add("client_failed", text)
        if self.fleet is not None and self.fleet.all_lost:
            self._ending.fail("client_failed", "no load worker is left")
        self._wakeup.set()

    # -- each second -------------------------------------------------------------------------

    def _end_second(self, now_ns: int, *, last: bool = False) -> None:
        self._last_second = (now_ns - self.t0_ns) // SECOND_NS
        phase = self.player.phase
        # A closed loop and a round have no rate.
        rated = phase is None or not (phase.concurrency or phase.burst)
        target = self.rate_control.target_rps(now_ns) if rated else None
        t_s = (now_ns - self.t0_ns) / 1e9
        self._figures.count_idle(self.live.in_flight, now_ns)
        row = timeline_row(t_s, now_ns, self.live, self._figures.view(now_ns), target)
        second = Second(now_ns, row, last)
        for observe in self.observers:
            observe(second)

    def _record_second(self, second: Second) -> None:
        self.series.add(second.row)
        phase = self.player.phase
        self._recorder.write(lambda log: log.timeline({"phase": phase.name if phase else None, **second.row}))

    def _size_fleet(self, second: Second) -> None:
        if self.fleet is not None and self.player.state == "sending":
            self.fleet.look(second.row["worker_cpu"], second.row["loop_lag_ms"])

    def _judge_step(self, second: Second) -> None:
        """Ends a step of a search that is bound to miss, and a search that no rate will help."""
        if self.searcher is None:
            return
        self.searcher.observe(self.live, second.now_ns, self.player.start_ns)
        if second.last:
            return
        if self.searcher.refused(self.live):
            self._refused = True
        elif self.searcher.hopeless(self.live):
            self.issue(self.player.end_phase(second.now_ns), "find_max")
