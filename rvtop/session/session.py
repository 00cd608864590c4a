"""One load session: target + plan + workers + telemetry -> Snapshot, and a run folder.

The one core under the dashboard, the plain lines and the headless run. It owns what it starts, and
ends it in whatever way the session ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from time import perf_counter_ns

from rvtop.contract.command import (
    Cancel,
    Command,
    CommandError,
    Record,
    Retarget,
    SetConcurrency,
    SetRate,
    SetSlo,
    SetSplit,
    SetWorkload,
)
from rvtop.contract.snapshot import Snapshot
from rvtop.errors import UserError
from rvtop.load.fleet.fleet import WorkerFleet
from rvtop.load.plan.schedule import PhasePlan
from rvtop.results import runlog
from rvtop.scenario.thresholds import check_thresholds
from rvtop.session.arms_watch import ArmsWatch
from rvtop.session.closed_loop import ClosedLoops
from rvtop.session.cluster_watch import ClusterWatch
from rvtop.session.commands import Commands
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.fleet_start import start_fleet
from rvtop.session.kv_watch import KvWatch
from rvtop.session.load_commands import LoadCommands
from rvtop.session.load_parts import Parts
from rvtop.session.load_run import LoadRun
from rvtop.session.load_state import load_state
from rvtop.session.load_target import LoadTarget
from rvtop.session.otlp import SpanSender
from rvtop.session.outlets import Outlets
from rvtop.session.pairs import PairWatch, with_second
from rvtop.session.played import Played
from rvtop.session.probes import ProbeRun
from rvtop.session.recorder import Recorder
from rvtop.session.recording import Recording
from rvtop.session.request import Outcome, SessionRequest, watch_scenario, with_slo
from rvtop.session.retarget import Retargeting
from rvtop.session.server_figures import ServerFigures
from rvtop.session.setup import (
    check_capacity,
    check_max_in_flight,
    check_max_rate,
    sources_of,
    surroundings,
    worker_spec,
)
from rvtop.session.still import Stillness
from rvtop.session.switch import Switching
from rvtop.session.timeline import Timeline
from rvtop.session.view import View
from rvtop.session.wakeup import Wakeup
from rvtop.target.acts import server_facts
from rvtop.telemetry.discover import names_of_target
from rvtop.workload.prepare import Prepared, prepare

#: Tenths of a second between the workers' deltas while nobody looks: fewer of them cost less.
_UNSEEN_TICKS = 5


class Session:
    """Runs one SessionRequest. ``run`` does all of it; ``snapshot`` and ``command`` may be called meanwhile,
    from the same loop."""

    def __init__(self, request: SessionRequest, *, seen: bool = True, apart: bool = False) -> None:
        """``seen``: somebody draws its snapshots, several a second. ``apart``: this process is the session's
        own, so that its stderr goes to ``session.log`` too."""
        self._request = request
        self._seen = seen
        self._apart = apart
        self._scenario = with_slo(request.scenario or watch_scenario(), request.slo)
        self._began_ns = perf_counter_ns()
        self._state = "starting"
        self._message = ""
        self._wakeup = Wakeup()
        self._recorder = Recorder(lambda text: self._ending.fail("client_failed", text))
        self._feed = EventFeed(self._recorder.event)
        self._ending = Ending(request.out, self._wakeup.set)
        running = ("starting", "running")
        self._target = LoadTarget(request, self._feed, self._ending, lambda: self._state in running)
        self._figures = ServerFigures(self._feed, self._target.on_page)
        self._kv = KvWatch(request.kv_events, self._feed)
        self._arms = ArmsWatch(self._target, self._feed, self._recorder)
        self._cluster = ClusterWatch(self._feed)
        self._stillness = Stillness()
        self._played = Played()
        self._timeline = Timeline(self._played)
        self._load = self._new_load((), self._began_ns, search=False)  # until the real one is known
        parts = (self._feed, self._recorder, self._ending, self._played)
        self.commands = Commands(lambda: self._load, *parts)
        self._outlets = Outlets(
            request, self._scenario.name, self.commands, self.snapshot, lambda: self._load, self._feed
        )
        self._load_commands = LoadCommands(self._parts(), self._scenario, lambda: self._load)
        retargeting = Retargeting(self._parts(), lambda: self._load)
        self._switching = Switching(self._target, self._feed, retargeting, lambda: self._load)
        self._recording = Recording(
            self._played, self._scenario, self._named_models, self._feed, self._recorder, request.out
        )
        closed_loops = ClosedLoops(lambda: self._load, self._feed.say)
        self.commands.handlers |= {
            SetRate: closed_loops.set_rate,
            SetConcurrency: closed_loops.set_concurrency,
            Cancel: self._load_commands.cancel,
            SetSlo: self._load_commands.set_slo,
            SetWorkload: self._load_commands.set_workload,
            Retarget: self._switching.follow,
            Record: self._recording.follow,
            SetSplit: self._arms.follow,
        }
        self._pairs: PairWatch | None = None
        if request.pair is not None:
            for kind in (Retarget, SetConcurrency):  # the load goes to two servers, by the clock alone
                del self.commands.handlers[kind]

    def _new_load(self, phases: tuple[PhasePlan, ...], t0_ns: int, *, search: bool) -> LoadRun:
        return LoadRun(self._parts(), phases, t0_ns, search=search)

    def _parts(self) -> Parts:
        return Parts(
            self._request,
            self._wakeup,
            self._feed,
            self._ending,
            self._recorder,
            self._target,
            self._figures,
            self._played,
            self._kv,
            self._cluster,
        )

    # -- from outside ------------------------------------------------------------------------

    def command(self, command: Command, by: str = "keyboard") -> None:
        """Follows a command of ``by``; an event says why one can't be followed."""
        try:
            self.commands.follow(command, by)
        except CommandError as error:
            self._feed.say(str(error), "warn", "command")

    def kill(self) -> None:
        """Kills the load workers and the backend instead of waiting for them; the results are written all
        the same."""
        if self._load.fleet is not None:
            self._load.fleet.kill()
        if self._load.probes is not None:
            self._load.probes.kill()
        self._target.servers.kill()

    @property
    def seq(self) -> int:
        """The ``seq`` of the picture now; while it is the same there is nothing new to draw."""
        return self._feed.seq

    async def news(self, seen: int) -> None:
        """Returns once ``seq`` is another than ``seen``."""
        await self._feed.news(seen)

    def snapshot(self) -> Snapshot:
        """The picture now."""
        now = perf_counter_ns()
        request, load = self._request, self._load
        view = View(
            request_name=self._scenario.name,
            state=self._ending.state or load_state(self._state, load, now, live=request.live),
            target=self._target.info,
            url=self._target.url,
            topology=self._target.topology,
            owned=self._target.owned,
            start=self._target.start,
            models=self._target.models,
            player=load.player,
            live=load.live,
            server=self._figures.view(now),
            target_rps=load.rate_control.target_rps(now),
            max_rate=request.max_rate,
            slo=self._load_commands.slo,
            workers=str(request.workers),
        )
        watched = not self._ending.state and self._state in ("running", "draining")
        picture = view.snapshot(
            now_ns=now,
            began_ns=self._began_ns,
            seq=self._feed.seq,
            series=load.series.series,
            events=self._feed.events,
            steps=self._feed.steps,
            out_dir=str(request.out),
            message=self._message,
            target_down_s=self._target.down_s if watched else None,
            requests=load.request_log.requests,
        )
        plan = self._timeline.plan(load.player, load.charts_t0_ns) if load.searcher is None else None
        return replace(
            picture,
            switch=self._switching.shown(now),
            standby=self._target.standby,
            backend_log=self._target.log_name,
            plan=plan,
            plan_s=None if plan is None else (now - load.charts_t0_ns) / 1e9 - plan.t0_s,
            recording_s=self._recording.recording_s,
            recording_unnamed=self._recording.unnamed,
            comb=load.watches.comb.comb,
            kv_map=self._kv.picture,
            spending=load.watches.energy.spending,
            verdict=load.watches.verdict.verdict,
            pairs=None if self._pairs is None else self._pairs.shown,
            probes=load.probes.shown(now) if load.probes is not None else None,
            saturation=load.watches.saturation.saturation,
            tasks=load.watches.tasks.tasks,
            arms=self._arms.shown,
            placement=load.watches.placement.placement,
            stages=load.watches.placement.stages,
            cluster=self._cluster.cluster,
        )

    def _named_models(self) -> Collection[str]:
        """The models that a scenario of this session has to name."""
        return self._request.models or self._scenario.models

    # -- from beginning to end ---------------------------------------------------------------

    async def run(self) -> Outcome:
        """Runs to the end. Never raises for what a user can cause; the outcome says it."""
        outcome = Outcome(5)
        try:
            outcome = await self._outcome_of_all()
            self._message = outcome.message
            if self._state != "starting":
                self._record_screen(last=True)
        finally:
            try:
                await self._close()
            except Exception as error:  # noqa: BLE001  # ours; what was measured is reported all the same
                outcome = replace(outcome, exit_code=5, message=str(self._ending.crashed(error)))
            self._ending.close()
        self._message = outcome.message
        self._feed.touch()
        return outcome

    async def _outcome_of_all(self) -> Outcome:
        try:
            await self._start()
            await self._load.play()
            self._state = "draining"
            await self._load.drain()
            self._recording.close()
        except UserError as error:
            if self._state == "starting":
                return self._never_began(error)
            self._ending.fail("client_failed", str(error))
            self._recording.close()
        except Exception as error:  # noqa: BLE001  # a fault of ours: one line, and the traceback in the log
            crash, fleet = self._ending.crashed(error), self._load.fleet
            if self._state == "starting" or fleet is None:
                return self._never_began(crash)
            self._ending.fail("client_failed", str(crash))
            self._recording.close()
            await fleet.stop()
            self._ending.in_flight += self._load.live.in_flight
        return await self._ending.outcome(self._load.in_flight_by_model, self._recorder, self._missed)

    def _never_began(self, error: UserError) -> Outcome:
        self._recording.close()  # nothing was sent: no file is left in the way of the next attempt
        self._recorder.close()  # of what is taken back nothing may be written anew
        return self._ending.never_began(error)

    def _record_screen(self, *, last: bool = False) -> None:
        snapshot = self.snapshot()
        self._recorder.write(lambda log: log.screen(snapshot, last=last))
        if self._stillness.is_news(snapshot):
            self._feed.touch()

    def _missed(self, result: dict[str, object]) -> list[str]:
        """What the run was to hold and did not."""
        searcher = self._load.searcher
        if searcher is not None:
            return [] if searcher.best is not None else [searcher.outcome()]
        return check_thresholds(self._scenario.thresholds, result)

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:  # whatever one of them meets, the others are ended
            stack.callback(self._recorder.close)
            if self._load.spans is not None:
                stack.push_async_callback(self._end_spans, self._load.spans)
            stack.push_async_callback(self._target.servers.stop)
            stack.push_async_callback(self._figures.stop)
            if self._load.probes is not None:
                stack.push_async_callback(self._load.probes.stop)
            stack.push_async_callback(self._kv.stop)
            stack.push_async_callback(self._arms.stop)
            stack.push_async_callback(self._cluster.stop)
            if self._load.fleet is not None:
                stack.push_async_callback(self._load.fleet.stop)
            stack.push_async_callback(self._target.stop_watching)
            stack.push_async_callback(self.commands.close)
            stack.push_async_callback(self._outlets.close)

    async def _end_spans(self, spans: SpanSender) -> None:
        self._feed.say(await asyncio.to_thread(spans.close))

    # -- the way to the first request --------------------------------------------------------

    async def _start(self) -> None:
        """Checks what was asked for, finds or starts the target, prepares the prompts, starts the workers."""
        request, scenario, target = self._request, self._scenario, self._target
        if request.search is None:  # else its phases are not played
            check_max_rate(scenario, request.max_rate)
            check_max_in_flight(scenario, request.workers)
        most_in_flight = check_capacity(scenario, request)
        await self._outlets.open(self._ending, self._began_ns)
        self._ending.open_folder(adopt_stderr=self._apart)
        self._recorder.open_events(request.out)
        if request.record is not None:
            self._recording.begin(str(request.record), "command line", self._began_ns)
        models = request.models or scenario.models
        ours = request.backend is not None
        if not ours:
            await target.probe(request.url or "", models)
            ours = target.info is not None and target.info.topology is not None
        prepared = await self._ending.unless_stopped(
            prepare(scenario.workload, request.out, scenario.seed, ours, self._feed.step)
        )
        if request.backend is not None:
            await target.start_backend(models)
        assert target.info is not None
        facts = await self._ending.unless_stopped(server_facts(target.info, target.transport))
        await self._start_load(prepared, most_in_flight, facts)
        self._state = "running"

    async def _start_load(
        self, prepared: Prepared, most_in_flight: int | None, facts: Mapping[str, object]
    ) -> None:
        request, scenario = self._request, self._scenario
        info, models = self._target.info, self._target.models
        assert info is not None
        t0_ns = perf_counter_ns()
        ticks = 1 if self._seen else _UNSEEN_TICKS
        traces = self._outlets.traces
        more = (ticks, most_in_flight, traces, self._target.shares)
        spec = worker_spec(request, scenario, info, models, prepared, t0_ns, *more)
        of_b: Mapping[str, object] = {}
        if request.pair is not None:
            spec, of_b = await self._ending.unless_stopped(with_second(request.pair, self._parts(), spec))
        if request.search is not None and (len(scenario.phases) > 1 or scenario.thresholds):
            ignored = "ignores the scenario's phases and thresholds"
            self._feed.say(f"--find-max sends the workload of {scenario.name} and {ignored}", kind="search")
        self._load = load = self._new_load(spec.phases, t0_ns, search=True)
        load.spec = spec
        if request.pair is not None:
            self._pairs = PairWatch(request.pair, self._parts(), load)
        load.observers.insert(0, lambda second: self._kv.note(second.row))  # before the row is written
        self._arms.attach(load, lambda: self._load_commands.slo)
        load.observers.append(lambda second: self._cluster.check_clock())
        load.observers.append(lambda second: self._record_screen())
        load.observers.append(lambda second: self._recording.second(second.now_ns))
        around = surroundings(request, scenario, info, models, prepared, t0_ns, self._target.start_s)
        around |= {"server": dict(facts)} | ({"server_b": dict(of_b)} if of_b else {})
        load.spans = self._outlets.spans(around["t0_unix_ns"], spec.address.path)
        self._recorder.open(runlog.RunLog(request.out, scenario.to_yaml(), around), t0_ns)
        sources = sources_of(request.metrics_urls, info, request.transport)
        self._target.expect_answers(names_of_target(sources, info.url))
        guarded = self._ending.guarded
        self._figures.start(sources, guarded)
        self._kv.start(info)
        self._arms.start()
        self._cluster.start(info, self._target.transport)
        load.fleet = WorkerFleet(
            request.workers,
            spec,
            guarded(load.on_delta),
            guarded(load.on_lost_worker),
            request.ray_address,
            self._ending.stderr_fd,
        )
        await start_fleet(load.fleet, self._parts())
        if request.probe_rate is not None:
            load.probes = ProbeRun(self._parts(), spec, request.probe_rate)
            await self._ending.unless_stopped(load.probes.start())
        self._target.watch()
