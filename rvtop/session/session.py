"""One load session: target + plan + workers + telemetry -> Snapshot, and a run folder.

The one core under the dashboard, the plain lines and the headless run. It owns what it starts, and
ends it in whatever way the session ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.contract import run_files
from rvtop.contract.command import Command, NextPhase, Stop
from rvtop.contract.snapshot import Event, Snapshot, StartStep
from rvtop.errors import UserError
from rvtop.load.fleet.fleet import WorkerFleet
from rvtop.load.fleet.local import PoolError
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.worker.messages import AddPhase, Delta
from rvtop.results import runlog
from rvtop.results.ending import Cause, End, end_of, exit_code
from rvtop.results.environment import write_clocks
from rvtop.results.session_log import SessionLog
from rvtop.results.sum_up import sum_up
from rvtop.scenario.thresholds import check_thresholds
from rvtop.session.find_max import Searcher
from rvtop.session.live import SECOND_NS, LiveState, fold
from rvtop.session.player import LEAD_NS, Player
from rvtop.session.rate_control import RateControl
from rvtop.session.request import Outcome, SessionRequest, watch_scenario
from rvtop.session.setup import (
    Interrupted,
    LossWatch,
    Wakeup,
    answered,
    cancel,
    check_capacity,
    check_max_in_flight,
    check_max_rate,
    fields_of,
    sources_of,
    surroundings,
    worker_spec,
)
from rvtop.session.target_watch import ANSWER_S, TargetWatch
from rvtop.session.view import SeriesLog, View, timeline_row
from rvtop.target.probe import (
    Backend,
    TargetInfo,
    answers,
    choose_models,
    probe,
)
from rvtop.telemetry.discover import names_of_target
from rvtop.telemetry.poller import Poller
from rvtop.telemetry.sample import Sample
from rvtop.telemetry.state import ServerState
from rvtop.text import printable, printable_names
from rvtop.workload.prepare import Prepared, prepare

BACKEND_LOG = "backend.log"

_STEP_S = 0.02
#: Tenths of a second between the workers' deltas while nobody looks: fewer of them cost less.
_UNSEEN_TICKS = 5
_EVENTS = 200
_EVENT_LIMIT = 1000


class Session:
    """Runs one SessionRequest. ``run`` does all of it; ``snapshot`` and ``command`` may be called meanwhile,
    from the same loop."""

    def __init__(self, request: SessionRequest, *, seen: bool = True, apart: bool = False) -> None:
        """``seen``: somebody draws its snapshots, several a second. ``apart``: this process is the session's
        own, so that its stderr goes to ``session.log`` too."""
        self._request = request
        self._seen = seen
        self._apart = apart
        self._wakeup = Wakeup()
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
        self._fleet: WorkerFleet | None = None
        self._poller: Poller | None = None
        self._server = ServerState()
        self._live = LiveState(self._t0_ns)
        self._player = Player(())
        self._searcher: Searcher | None = None
        self._rate_control = self._new_rate_control(())
        self._series = SeriesLog()
        self._steps: dict[str, StartStep] = {}
        self._events: list[Event] = []
        self._last_second = 0
        self._noted: set[tuple[str, str]] = set()  # what sources left out, as it was said
        self._loss: LossWatch | None = None
        self._target_watch: TargetWatch | None = None
        self._target_pages: frozenset[str] = frozenset()  # sources that the target itself answers
        self._seq = 0
        self._most_in_flight: int | None = None
        self._stop: Stop | None = None
        self._causes: list[Cause] = []  # of the run's end, beside the user's wish
        self._cannot_go_on = False
        self._hopeless = False  # a search on a server that refuses all
        self._in_flight = 0  # requests that the end took the answer from
        self._stderr: SessionLog | None = None
        self._made: list[Path] | None = None  # the folders that were made for the run
        self._began = False  # the load did
        self._watch: asyncio.Task[None] | None = None

    # -- from outside ------------------------------------------------------------------------

    def command(self, command: Command) -> None:
        """Follows a command; one that makes no sense now is left alone."""
        now = perf_counter_ns()
        if isinstance(command, Stop):
            self._stop = self._stop or command
            self._wakeup.set()
            return
        if self._player.state != "sending":
            return
        if isinstance(command, NextPhase):
            self._issue(self._player.end_phase(now))
        else:
            self._rate_control.follow(command, self._player.phase, now)
        self._wakeup.set()

    def hurry(self) -> None:
        """Waits for nobody any more who is to end by himself; the results are written all the same."""
        if self._fleet is not None:
            self._fleet.kill()
        if self._backend is not None:
            self._backend.kill()

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
            target_rps=self._rate_control.target_rps(now),
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
        outcome = Outcome(5)
        try:
            outcome = await self._outcome_of_all()
        finally:
            try:
                await self._close()
            except Exception as error:  # noqa: BLE001  # ours; what was measured is told all the same
                outcome = replace(outcome, exit_code=5, message=str(self._crashed(error)))
            if self._stderr is not None:
                self._stderr.close()
                self._stderr = None
        self._message = outcome.message
        self._outcome = outcome
        self._touch()
        return outcome

    async def _outcome_of_all(self) -> Outcome:
        try:
            await self._prepare()
            await self._play()
        except UserError as error:
            if not self._began:
                return self._failure(error)
            self._ends("client_failed", str(error))
        except Exception as error:  # noqa: BLE001  # a fault of ours: one line, and the traceback in the log
            crash = self._crashed(error)
            if not self._began or self._fleet is None:
                return self._failure(crash)
            self._ends("client_failed", str(crash))
            await self._fleet.stop()
            self._in_flight += self._live.in_flight
        return await self._judge()

    def _ends(self, kind: str, text: str) -> None:
        """The run can't go on."""
        self._causes.append(Cause(kind, text))
        self._cannot_go_on = True
        self._wakeup.set()

    def _crashed(self, error: Exception) -> UserError:
        if self._stderr is None:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return UserError(f"the session crashed: {printable(words, 300)}", 5)
        return UserError(self._stderr.crash(error), 5)

    def _guarded(self, take: Callable[..., None]) -> Callable[..., None]:
        """``take`` as others call it, whom our own faults must not end: they end the run."""

        def guarded(*told: Any) -> None:
            try:
                take(*told)
            except Exception as error:  # noqa: BLE001  # told in one line, and in the log
                self._ends("client_failed", str(self._crashed(error)))

        return guarded

    # -- the way to the first request --------------------------------------------------------

    async def _prepare(self) -> None:
        request = self._request
        if request.search is None:  # else its phases are not played
            check_max_rate(self._scenario, request.max_rate)
            check_max_in_flight(self._scenario, request.workers)
        self._most_in_flight = check_capacity(self._scenario, request)
        self._made = runlog.create(request.out)
        self._stderr = SessionLog(request.out)
        if self._apart:
            self._stderr.adopt_stderr()
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
        # A backend of ours serves what was asked for: all of it is meant, in the order of the command line.
        ours = self._backend.models if self._backend is not None else ()
        self._models = choose_models(self._info, self._request.models or self._scenario.models or ours)

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
        most = self._most_in_flight
        spec = worker_spec(request, self._scenario, info, self._models, prepared, self._t0_ns, ticks, most)
        phases = spec.phases
        if request.search is not None:
            self._searcher = Searcher(request.search, self._note, self._say, str(request.workers))
            if len(self._scenario.phases) > 1 or self._scenario.thresholds:
                ignored = "ignores the scenario's phases and thresholds"
                self._say(f"--find-max sends the workload of {self._scenario.name} and {ignored}")
        self._rate_control = self._new_rate_control(phases)
        around = surroundings(request, self._scenario, info, self._models, prepared, self._t0_ns)
        self._log = runlog.RunLog(request.out, self._scenario.to_yaml(), around)
        sources = sources_of(request, info)
        self._server = ServerState(source.name for source in sources)
        loop = asyncio.get_running_loop()
        self._target_pages = names_of_target(sources, info.url)
        self._target_watch = TargetWatch(self._health, self._say)
        on_sample = self._guarded(self._on_sample)

        def hand_over(sample: Sample) -> None:  # from the poller's thread
            loop.call_soon_threadsafe(on_sample, sample)

        self._poller = Poller(sources, hand_over)
        self._poller.start()
        on_delta, on_lost = self._guarded(self._on_delta), self._guarded(self._on_lost_worker)
        stderr = None if self._stderr is None else self._stderr.fd
        self._fleet = WorkerFleet(request.workers, spec, on_delta, on_lost, request.ray_address, stderr)
        began = perf_counter_ns()
        if request.workers.ray:
            self._step(StartStep("load workers", "run", 0.0, f"{request.workers.count} on the Ray cluster"))
        await self._stoppable(self._fleet.start())
        if request.workers.ray:
            self._step(StartStep("load workers", "done", (perf_counter_ns() - began) / 1e9))
            write_clocks(request.out, self._fleet.clocks)  # known only now
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
                await self._wakeup.sleep_until(self._next_ns)
        assert self._fleet is not None
        self._state = "draining"
        # While requests are sent, the end has its lead too: nothing is sent behind it, so the log is the run.
        lead = LEAD_NS if self._player.state == "sending" else 0
        cancelled = self._live.errors["cancelled"]
        self._issue(PlanEvent(perf_counter_ns() + lead, "stop"))
        await self._fleet.drain()
        self._in_flight += self._live.errors["cancelled"] - cancelled + self._live.in_flight
        if clocks := self._fleet.clocks:  # measured again since the start: how they drifted is known now
            self._record(lambda log: write_clocks(log.folder, clocks))
        self._each_second(perf_counter_ns(), last=True)

    @property
    def _going(self) -> bool:
        over = self._stop is not None or self._cannot_go_on or self._hopeless
        return self._player.state != "over" and not over

    @property
    def _next_ns(self) -> int:
        """When there is something to do, unless the alarm is rung before."""
        second_ns = self._t0_ns + (self._last_second + 1) * SECOND_NS
        return min(second_ns, self._player.next_ns, self._rate_control.next_ns)

    def _advance(self) -> None:
        now = perf_counter_ns()
        for entry in self._rate_control.take_effect(now):
            if entry.kind == "phase":
                self._live.begin_phase()
        assert self._fleet is not None
        self._grow(now)
        drained = self._fleet.drained(self._live.latest, self._player.index)
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
        assert self._searcher is not None and self._fleet is not None
        self._searcher.look(self._live, perf_counter_ns(), self._player.start_ns)
        phase = self._searcher.more(self._live)
        if phase is not None:
            self._fleet.send(AddPhase(phase))
            self._rate_control.add_phase(phase)
        return phase

    def _grow(self, now_ns: int) -> None:
        """Lets a load worker that stands by take its share."""
        assert self._fleet is not None
        try:
            count = self._fleet.joined()
        except PoolError as error:
            self._say(str(error), "warn")
            return
        if count is not None:
            self._issue(PlanEvent(now_ns + LEAD_NS, "workers", count))
            self._say(f"load worker {count - 1} joins: {self._fleet.why}")

    def _note(self, fields: dict[str, Any]) -> None:
        """Writes a line of the command log that no worker follows."""
        self._record(lambda log: log.command({"at_ns": perf_counter_ns() - self._t0_ns, **fields}))

    def _issue(self, entry: PlanEvent | None) -> None:
        if entry is None or self._fleet is None:
            return
        self._fleet.send(entry)
        self._rate_control.note(entry)
        fields = fields_of(entry, self._t0_ns, self._player.phases)
        self._record(lambda log: log.command(fields))
        self._touch()

    def _record(self, write: Callable[[runlog.RunLog], None]) -> None:
        """Writes to the run log; where that is impossible, there is no point in going on."""
        try:
            if self._log is not None:
                write(self._log)
        except runlog.RunFolderError as error:
            self._ends("client_failed", str(error))

    def _on_delta(self, delta: Delta) -> None:
        self._record(lambda log: log.requests(delta.lines))
        fold(self._live, delta)
        self._beat(delta.t_ns)
        if self._target_watch is not None and answered(delta):
            self._target_watch.heard()
        self._touch()
        if delta.over or (self._fleet is not None and self._fleet.adding):
            self._wakeup.set()

    def _beat(self, now_ns: int) -> None:
        """Leaves what a kill -9 would take: the requests that have no line yet."""
        fields = {
            "t_s": (now_ns - self._t0_ns) / 1e9,
            "in_flight": self._live.in_flight,
            "by_model": self._live.in_flight_by_model(printable_names(self._models)),
        }
        self._record(lambda log: log.heartbeat(fields))

    def _on_sample(self, sample: Sample) -> None:
        note = self._server.apply(sample)
        if note and (sample.source, note) not in self._noted:  # once; it comes with every poll
            self._noted.add((sample.source, note))
            self._say(f"{sample.source}: {note}", "warn")
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
            "by_model": dict(zip(printable_names(self._models), held.in_flight_by_model, strict=True))
            if held
            else {},
        }
        self._live.lose(index)
        lost = f"load worker {index} died ({why}); {fields['in_flight']} requests in flight lost"
        self._say(lost, "error")
        self._record(lambda log: log.command(fields))
        self._in_flight += fields["in_flight"]
        self._causes.append(Cause("client_failed", lost))
        if self._fleet is not None and self._fleet.all_lost:
            self._ends("client_failed", "no load worker is left")
        self._wakeup.set()

    async def _watch_backend(self, backend: Backend) -> None:
        code = await backend.wait()
        if self._stop is None and self._state in ("running", "starting"):
            words = backend.log_tail(1)
            self._ends("target_lost", f"the backend ended with exit code {code}: {words}".rstrip(": "))

    def _each_second(self, now_ns: int, *, last: bool = False) -> None:
        second = (now_ns - self._t0_ns) // SECOND_NS
        if second == self._last_second and not last:
            return
        self._last_second = second
        t_s = (now_ns - self._t0_ns) / 1e9
        phase = self._player.phase
        # A closed loop and a round have no rate.
        rated = phase is None or not (phase.concurrency or phase.burst)
        target = self._rate_control.target_rps(now_ns) if rated else None
        row = timeline_row(t_s, now_ns, self._live, self._server.view(now_ns), target)
        self._series.add(row)
        self._record(lambda log: log.timeline({"phase": phase.name if phase else None, **row}))
        if self._fleet is not None and self._player.state == "sending":
            self._fleet.look(row["worker_cpu"], row["loop_lag_ms"])
        if self._loss is not None:
            self._loss.look(self._live, now_ns)
        if self._searcher is not None:
            self._searcher.look(self._live, now_ns, self._player.start_ns)
            if not last and self._searcher.refused(self._live):
                self._hopeless = True
            elif not last and self._searcher.hopeless(self._live):
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
        if self._going:
            self._ends(
                "target_lost", f"{self._info.url}: the target is lost (nothing answers there any more)"
            )

    # -- the end -----------------------------------------------------------------------------

    async def _judge(self) -> Outcome:
        """Sums up; the exit code follows from how the run ended and what it measured."""
        if self._stop is not None and self._stop.reason == "interrupted":
            self._causes.append(Cause("interrupted", "interrupted"))
        end = self._end()
        self._record(lambda log: log.ended({"at_ns": perf_counter_ns() - self._t0_ns, **end.fields()}))
        end = self._end()  # the disk may be full by now
        try:
            result, problem = await sum_up(self._request.out, end)
        except UserError as error:  # follows from what came before, if something did
            self._state = "crashed"
            return Outcome(5, end.text if end.kind == "client_failed" else str(error))
        if problem and end.kind != "client_failed":
            self._causes.append(Cause("client_failed", problem))
            end = self._end()
            result["end"] = end.told()
        kind, text = result["end"]["kind"], result["end"]["text"]
        self._state = {"target_lost": "lost", "client_failed": "crashed"}.get(kind, "done")
        missed = self._missed(result)
        told = [text, *missed] if text else missed
        if kind == "interrupted":
            told[-1] += f"; what was measured is in {self._request.out}"
        return Outcome(exit_code(kind, missed), "; ".join(told), result)

    def _end(self) -> End:
        by_model = self._live.in_flight_by_model(printable_names(self._models))
        return end_of(self._causes, self._in_flight, by_model)

    def _missed(self, result: dict[str, Any]) -> list[str]:
        """What the run was to hold and did not; a run that was ended before its time is not held to it."""
        if self._stop is not None or self._cannot_go_on:
            return []
        if self._searcher is not None:
            return [] if self._searcher.best is not None else [self._searcher.outcome()]
        return check_thresholds(self._scenario.thresholds, result)

    def _failure(self, error: UserError) -> Outcome:
        """The outcome of a run that never began: nothing of it is left but the log of what failed."""
        self._state = "failed"
        code, text = error.exit_code, str(error)
        if self._made is not None:
            log = self._request.out / {4: BACKEND_LOG, 5: run_files.SESSION_LOG}.get(code, "")
            keep = log.is_file() and log.stat().st_size > 0
            runlog.discard(self._request.out, self._made, BACKEND_LOG, keep=log.name if keep else "")
            text += f" (its log: {log})" if keep and str(log) not in text else ""
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
            if self._fleet is not None:
                stack.push_async_callback(self._fleet.stop)
            if self._target_watch is not None:
                stack.push_async_callback(self._target_watch.close)

    # -- small things ------------------------------------------------------------------------

    def _new_rate_control(self, phases: tuple[PhasePlan, ...]) -> RateControl:
        return RateControl(phases, self._request.max_rate, self._issue, self._say)

    def _shown_state(self, now_ns: int) -> str:
        if self._state != "running":
            return self._state
        if self._rate_control.paused:
            return "paused"
        if self._player.state in ("draining", "cutting"):
            return "draining"
        if not self._live.sent and not self._rate_control.target_rps(now_ns) and self._request.live:
            return "watching"
        return "running"

    def _step(self, step: StartStep) -> None:
        self._steps[step.name] = step
        self._touch()

    def _say(self, text: str, level: str = "info") -> None:
        self._events.append(Event(time.time(), printable(text, _EVENT_LIMIT), level))
        del self._events[:-_EVENTS]
        self._touch()

    def _touch(self) -> None:
        self._seq += 1
