"""One load session: target + plan + workers + telemetry -> Snapshot, and a run folder.

The one core under the dashboard, the plain lines and the headless run. It owns what it starts, and
ends it in whatever way the session ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.errors import UserError
from rvtop.load.command import Command, NextPhase, Stop
from rvtop.load.crew import Crew
from rvtop.load.messages import AddPhase, Delta
from rvtop.load.pool import PoolError
from rvtop.load.schedule import Entry, PhasePlan
from rvtop.results import runlog
from rvtop.results.environment import write_clocks
from rvtop.results.sum_up import sum_up
from rvtop.scenario.player import LEAD_NS, Player
from rvtop.scenario.thresholds import check_thresholds
from rvtop.session_dial import Dial
from rvtop.session_parts import (
    Alarm,
    Interrupted,
    LossWatch,
    answered,
    cancel,
    fields_of,
    heed_in_flight,
    heed_max_rate,
    sources_of,
    surroundings,
    worker_spec,
)
from rvtop.session_request import Outcome, SessionRequest, watch_scenario
from rvtop.session_search import Searcher
from rvtop.stats.live import SECOND_NS, LiveState, fold
from rvtop.stats.snapshot import Event, Snapshot, Step
from rvtop.stats.view import SeriesLog, View, timeline_row
from rvtop.target import (
    Backend,
    TargetError,
    TargetInfo,
    answers,
    choose_models,
    probe,
)
from rvtop.target_watch import ANSWER_S, TargetWatch
from rvtop.telemetry.discover import names_of_target
from rvtop.telemetry.poller import Poller
from rvtop.telemetry.sample import Sample
from rvtop.telemetry.state import ServerState
from rvtop.workload.prepare import Prepared, prepare

BACKEND_LOG = "backend.log"

_STEP_S = 0.02
#: Tenths of a second between the workers' deltas while nobody looks: fewer of them cost less.
_UNSEEN_TICKS = 5
_EVENTS = 200


class Session:
    """Runs one SessionRequest. ``run`` does all of it; ``snapshot`` and ``command`` may be called meanwhile,
    from the same loop."""

    def __init__(self, request: SessionRequest, *, seen: bool = True) -> None:
        """``seen``: somebody draws its snapshots, several a second."""
        self._request = request
        self._seen = seen
        self._alarm = Alarm()
        self._scenario = request.scenario or watch_scenario()
        self._began_ns = perf_counter_ns()
        self._t0_ns = self._began_ns
        self._state = "starting"
        self._message = ""
        self._outcome: Outcome | None = None
        self._backend: Backend | None = None
        self._info: TargetInfo | None = None
        self._models: tuple[str, ...] = ()
        self._log: runlog.RunLog | None = None
        self._crew: Crew | None = None
        self._poller: Poller | None = None
        self._server = ServerState()
        self._live = LiveState(self._t0_ns)
        self._player = Player(())
        self._searcher: Searcher | None = None
        self._dial = self._new_dial(())
        self._series = SeriesLog()
        self._steps: dict[str, Step] = {}
        self._events: list[Event] = []
        self._last_second = 0
        self._loss: LossWatch | None = None
        self._target_watch: TargetWatch | None = None
        self._target_pages: frozenset[str] = frozenset()  # sources that the target itself answers
        self._seq = 0
        self._stop: Stop | None = None
        self._lost: UserError | None = None  # why the run can't go on
        self._made: list[Path] | None = None  # the folders that were made for the run
        self._began = False  # the load did
        self._watch: asyncio.Task[None] | None = None

    # -- from outside ------------------------------------------------------------------------

    def command(self, command: Command) -> None:
        """Follows a command; one that makes no sense now is left alone."""
        now = perf_counter_ns()
        if isinstance(command, Stop):
            self._stop = self._stop or command
            self._alarm.ring()
            return
        if self._player.state != "sending":
            return
        if isinstance(command, NextPhase):
            self._issue(self._player.end_phase(now))
        else:
            self._dial.follow(command, self._player.phase, now)
        self._alarm.ring()

    def snapshot(self) -> Snapshot:
        """The picture now."""
        now = perf_counter_ns()
        view = View(
            request_name=self._scenario.name,
            state=self._shown_state(now),
            target=self._info,
            url=self._backend.url if self._backend else (self._request.url or ""),
            topology=self._request.backend.topology if self._request.backend else None,
            owned=self._request.backend is not None,
            models=self._models,
            player=self._player,
            live=self._live,
            server=self._server.view(now),
            target_rps=self._dial.target_rps(now),
            max_rate=self._request.max_rate,
            slo=self._scenario.slo,
            workers=str(self._request.workers),
        )
        return view.snapshot(
            now_ns=now,
            began_ns=self._began_ns,
            seq=self._seq,
            series=self._series.series,
            events=tuple(self._events),
            steps=tuple(self._steps.values()),
            out_dir=str(self._request.out),
            message=self._message,
            target_down_s=self._target_down_s,
        )

    async def run(self) -> Outcome:
        """Runs to the end. Never raises for what a user can cause; the outcome says it."""
        try:
            await self._prepare()
            await self._play()
            outcome = await self._judge()
        except UserError as error:
            outcome = self._failure(error)
        finally:
            await self._close()
        self._message = outcome.message
        self._outcome = outcome
        self._touch()
        return outcome

    # -- the way to the first request --------------------------------------------------------

    async def _prepare(self) -> None:
        request = self._request
        if request.search is None:  # else its phases are not played
            heed_max_rate(self._scenario, request.max_rate)
            heed_in_flight(self._scenario, request.workers)
        self._made = runlog.create(request.out)
        ours = request.backend is not None
        if not ours:
            await self._probe(request.url or "")
            ours = self._info is not None and self._info.topology is not None
        prepared = await self._stoppable(
            prepare(self._scenario.workload, request.out, self._scenario.seed, ours, self._step)
        )
        if request.backend is not None:
            self._backend = Backend(request.backend, request.out / BACKEND_LOG, self._step)
            url = await self._stoppable(self._backend.start())
            await self._probe(url)
            self._watch = asyncio.create_task(self._watch_backend(self._backend))
        await self._start_load(prepared)

    async def _probe(self, url: str) -> None:
        self._info = await probe(url, self._request.transport)
        self._models = choose_models(self._info, self._request.models or self._scenario.models)

    async def _stoppable(self, work: Any) -> Any:
        """Waits for ``work``, or cancels it when the user stops the session meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if self._stop is not None:
                    raise Interrupted()
                await asyncio.wait([task], timeout=_STEP_S)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _start_load(self, prepared: Prepared) -> None:
        request, info = self._request, self._info
        assert info is not None
        self._t0_ns = perf_counter_ns()
        self._live = LiveState(self._t0_ns)
        ticks = 1 if self._seen else _UNSEEN_TICKS
        spec = worker_spec(request, self._scenario, info, self._models, prepared, self._t0_ns, ticks)
        phases = spec.phases
        if request.search is not None:
            self._searcher = Searcher(request.search, self._note, self._say, str(request.workers))
            if len(self._scenario.phases) > 1 or self._scenario.thresholds:
                name = self._scenario.name
                self._say(f"find-max sends the workload of {name}; its phases and thresholds rest")
        self._dial = self._new_dial(phases)
        around = surroundings(request, self._scenario, info, self._models, prepared, self._t0_ns)
        self._log = runlog.RunLog(request.out, self._scenario.to_yaml(), around)
        sources = sources_of(request, info)
        self._server = ServerState(source.name for source in sources)
        loop = asyncio.get_running_loop()
        self._target_pages = names_of_target(sources, info.url)
        self._target_watch = TargetWatch(self._health, self._say)
        self._poller = Poller(sources, lambda sample: loop.call_soon_threadsafe(self._on_sample, sample))
        self._poller.start()
        self._crew = Crew(request.workers, spec, self._on_delta, self._on_lost_worker, request.ray_address)
        began = perf_counter_ns()
        if request.workers.ray:
            self._step(Step("load workers", "run", 0.0, f"{request.workers.count} on the Ray cluster"))
        await self._stoppable(self._crew.start())
        if request.workers.ray:
            self._step(Step("load workers", "done", (perf_counter_ns() - began) / 1e9))
            write_clocks(request.out, self._crew.clocks)  # known only now
        self._target_watch.start()
        self._loss = LossWatch(perf_counter_ns(), self._answers, self._target_lost)
        self._player = Player(phases, self._next_step if self._searcher is not None else None)
        self._began = True
        self._state = "running"

    # -- while it runs -----------------------------------------------------------------------

    async def _play(self) -> None:
        while self._going:
            self._advance()
            if self._going:
                await self._alarm.sleep_until(self._next_ns)
        assert self._crew is not None
        self._state = "draining"
        # While requests are sent, the end has its lead too: nothing is sent behind it, so the log is the run.
        lead = LEAD_NS if self._player.state == "sending" else 0
        self._issue(Entry(perf_counter_ns() + lead, "stop"))
        await self._crew.drain()
        if clocks := self._crew.clocks:  # measured again since the start: how they drifted is known now
            self._record(lambda log: write_clocks(log.folder, clocks))
        self._each_second(perf_counter_ns(), last=True)
        self._state = "lost" if self._lost else "done"

    @property
    def _going(self) -> bool:
        return self._player.state != "over" and self._stop is None and self._lost is None

    @property
    def _next_ns(self) -> int:
        """When there is something to do, unless the alarm is rung before."""
        second_ns = self._t0_ns + (self._last_second + 1) * SECOND_NS
        return min(second_ns, self._player.next_ns, self._dial.next_ns)

    def _advance(self) -> None:
        now = perf_counter_ns()
        for entry in self._dial.take_effect(now):
            if entry.kind == "phase":
                self._live.begin_phase()
        assert self._crew is not None
        self._grow(now)
        drained = self._crew.drained(self._live.latest, self._player.index)
        entry_now = self._player.step(now, drained)
        if entry_now is not None:
            if entry_now.kind == "phase":
                self._say(f"phase {self._player.phases[int(entry_now.value)].name} begins")
            elif entry_now.kind == "cut":
                self._say(f"{self._live.in_flight} requests cut at the end of the drain", "warn")
            self._issue(entry_now)
        self._each_second(now)
        self._touch()

    def _next_step(self) -> PhasePlan | None:
        """The next phase of a search; the workers know it before it begins."""
        assert self._searcher is not None and self._crew is not None
        self._searcher.look(self._live, perf_counter_ns(), self._player.start_ns)
        phase = self._searcher.more(self._live)
        if phase is not None:
            self._crew.send(AddPhase(phase))
            self._dial.add_phase(phase)
        return phase

    def _grow(self, now_ns: int) -> None:
        """Lets a load worker that stands by take its share."""
        assert self._crew is not None
        try:
            count = self._crew.joined()
        except PoolError as error:
            self._say(str(error), "warn")
            return
        if count is not None:
            self._issue(Entry(now_ns + LEAD_NS, "workers", count))
            self._say(f"load worker {count - 1} joins: {self._crew.why}")

    def _note(self, fields: dict[str, Any]) -> None:
        """Writes a line of the command log that no worker follows."""
        self._record(lambda log: log.command({"at_ns": perf_counter_ns() - self._t0_ns, **fields}))

    def _issue(self, entry: Entry | None) -> None:
        if entry is None or self._crew is None:
            return
        self._crew.send(entry)
        self._dial.note(entry)
        fields = fields_of(entry, self._t0_ns, self._player.phases)
        self._record(lambda log: log.command(fields))
        self._touch()

    def _record(self, write: Callable[[runlog.RunLog], None]) -> None:
        """Writes to the run log; where that is impossible, there is no point in going on."""
        try:
            if self._log is not None:
                write(self._log)
        except runlog.RunFolderError as error:
            self._lost = self._lost or error
            self._alarm.ring()

    def _on_delta(self, delta: Delta) -> None:
        self._record(lambda log: log.requests(delta.lines))
        fold(self._live, delta)
        if self._target_watch is not None and answered(delta):
            self._target_watch.heard()
        self._touch()
        if delta.over or (self._crew is not None and self._crew.adding):
            self._alarm.ring()

    def _on_sample(self, sample: Sample) -> None:
        self._server.apply(sample)
        if self._target_watch is not None and sample.source in self._target_pages and sample.error is None:
            self._target_watch.heard()
        self._touch()

    def _on_lost_worker(self, index: int, why: str) -> None:
        held = self._live.latest.get(index)
        fields: dict[str, Any] = {
            "at_ns": perf_counter_ns() - self._t0_ns,
            "cmd": "worker_lost",
            "worker": index,
            "in_flight": held.in_flight if held else 0,
            "by_model": dict(zip(self._models, held.in_flight_by_model, strict=True)) if held else {},
        }
        self._live.lose(index)
        because = f": {why}" if why else ""
        self._say(f"load worker {index} is lost, {fields['in_flight']} requests with it{because}", "error")
        self._record(lambda log: log.command(fields))
        if self._crew is not None and self._crew.all_lost:
            self._lost = TargetError("every load worker is gone; the run can't go on", 4)
        self._alarm.ring()

    async def _watch_backend(self, backend: Backend) -> None:
        code = await backend.wait()
        if self._stop is None and self._state in ("running", "starting"):
            words = backend.last_words(1)
            self._lost = TargetError(f"the backend ended with exit code {code}: {words}".rstrip(": "), 3)
            self._alarm.ring()

    def _each_second(self, now_ns: int, *, last: bool = False) -> None:
        second = (now_ns - self._t0_ns) // SECOND_NS
        if second == self._last_second and not last:
            return
        self._last_second = second
        t_s = (now_ns - self._t0_ns) / 1e9
        phase = self._player.phase
        # A closed loop and a round have no rate.
        rated = phase is None or not (phase.concurrency or phase.burst)
        target = self._dial.target_rps(now_ns) if rated else None
        row = timeline_row(t_s, now_ns, self._live, self._server.view(now_ns), target)
        self._series.add(row)
        self._record(lambda log: log.timeline({"phase": phase.name if phase else None, **row}))
        if self._crew is not None and self._player.state == "sending":
            self._crew.look(row["worker_cpu"], row["loop_lag_ms"])
        if self._loss is not None:
            self._loss.look(self._live, now_ns)
        if self._searcher is not None:
            self._searcher.look(self._live, now_ns, self._player.start_ns)
            if not last and self._searcher.hopeless(self._live):
                self._issue(self._player.end_phase(now_ns))

    async def _answers(self) -> bool:
        assert self._info is not None
        return await answers(self._info.url, self._request.transport)

    async def _health(self) -> bool:
        assert self._info is not None
        return await answers(self._info.url, self._request.transport, ANSWER_S)

    @property
    def _target_down_s(self) -> float | None:
        if self._target_watch is None or self._state not in ("running", "draining"):
            return None
        return self._target_watch.down_s

    def _target_lost(self) -> None:
        assert self._info is not None
        problem = f"{self._info.url}: the target is lost (nothing answers there any more)"
        self._lost = self._lost or TargetError(problem)
        self._alarm.ring()

    # -- the end -----------------------------------------------------------------------------

    async def _judge(self) -> Outcome:
        """Sums up; the exit code follows from how the run ended and what it measured."""
        result = await sum_up(self._request.out)
        if self._lost is not None:
            return Outcome(self._lost.exit_code, str(self._lost), result)
        if self._stop is not None and self._stop.reason == "interrupted":
            return Outcome(130, f"interrupted; what was measured is in {self._request.out}", result)
        if self._stop is not None:
            return Outcome(0, "", result)
        if self._searcher is not None:
            missed = [] if self._searcher.best is not None else [self._searcher.outcome()]
        else:
            missed = check_thresholds(self._scenario.thresholds, result)
        return Outcome(1 if missed else 0, "; ".join(missed), result)

    def _failure(self, error: UserError) -> Outcome:
        self._state = "failed"
        error = self._lost or error  # a summary that can't be written follows from what came before
        code, text = error.exit_code, str(error)
        if not self._began and self._made is not None:
            log = self._request.out / BACKEND_LOG
            keep = code == 4 and log.exists()
            runlog.discard(self._request.out, self._made, *([] if keep else [BACKEND_LOG]))
            text += f" (its log: {log})" if keep else ""
        return Outcome(code, text)

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:  # whatever one of them meets, the others are ended
            if self._log is not None:
                stack.callback(self._log.close)
            if self._backend is not None:
                stack.push_async_callback(self._backend.stop)
            if self._watch is not None:
                stack.push_async_callback(cancel, self._watch)
            if self._loss is not None:
                stack.push_async_callback(self._loss.close)
            if self._poller is not None:
                stack.push_async_callback(asyncio.to_thread, self._poller.stop)
            if self._crew is not None:
                stack.push_async_callback(self._crew.stop)
            if self._target_watch is not None:
                stack.push_async_callback(self._target_watch.close)

    # -- small things ------------------------------------------------------------------------

    def _new_dial(self, phases: tuple[PhasePlan, ...]) -> Dial:
        return Dial(phases, self._request.max_rate, self._issue, self._say)

    def _shown_state(self, now_ns: int) -> str:
        if self._state != "running":
            return self._state
        if self._dial.paused:
            return "paused"
        if self._player.state in ("draining", "cutting"):
            return "draining"
        if not self._live.sent and not self._dial.target_rps(now_ns) and self._request.live:
            return "watching"
        return "running"

    def _step(self, step: Step) -> None:
        self._steps[step.name] = step
        self._touch()

    def _say(self, text: str, level: str = "info") -> None:
        self._events.append(Event(time.time(), text, level))
        del self._events[:-_EVENTS]
        self._touch()

    def _touch(self) -> None:
        self._seq += 1
