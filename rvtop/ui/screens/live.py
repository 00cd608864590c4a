"""The live screen: clients on the left, servers on the right, what you command on top."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult

from rvtop.contract.command import Mark, NextPhase, Pause, Record, Resume, SetRate, Undo
from rvtop.contract.run_files import BACKEND_LOG
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.format import rate
from rvtop.ui.pending_rate import PendingRate
from rvtop.ui.screens.chart_screen import ChartScreen
from rvtop.ui.screens.confirm import ConfirmScreen
from rvtop.ui.screens.log import LogScreen
from rvtop.ui.screens.mark import MarkScreen
from rvtop.ui.screens.rate import RateScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.banner import OVER, Banner
from rvtop.ui.widgets.change import ChangePanel
from rvtop.ui.widgets.deployments import DeploymentsPanel
from rvtop.ui.widgets.engines import EnginesPanel
from rvtop.ui.widgets.events import EventsPanel
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.gpu import GpuPanel
from rvtop.ui.widgets.gpu_use import GpuUsePanel
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.kvqueue import KvQueuePanel
from rvtop.ui.widgets.latency import LatencyPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.load import LoadPanel
from rvtop.ui.widgets.nodes import NodesPanel
from rvtop.ui.widgets.notice import NoticePanel
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.places import Places
from rvtop.ui.widgets.steps import StepsPanel
from rvtop.ui.widgets.timeline import TimelinePanel
from rvtop.ui.widgets.tokens import TokensPanel
from rvtop.ui.widgets.ttft import TtftPanel


class LiveScreen(ChartScreen):
    """Draws each new snapshot, and turns keys into commands."""

    PLACES: ClassVar[str] = "A*L"

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.pending_rate = PendingRate(shell.clock)
        self._may_load = shell.may_load
        self._can_choose_again = shell.can_choose_again

    def compose(self) -> ComposeResult:
        yield Places(*self.panels())

    def panels(self) -> list[Panel]:
        """Its panels, in their order from above to below, which is that of ``tab``."""
        again = self._can_choose_again
        return [
            Header(),
            LoadPanel(),
            NoticePanel(),
            Banner(can_choose_again=again),
            StepsPanel(),
            TtftPanel(),
            LatencyPanel(),
            ChangePanel(),
            LatencyTimePanel(),
            TokensPanel(),
            EnginesPanel(),
            GpuPanel(),
            DeploymentsPanel(),
            NodesPanel(),
            InFlightPanel(),
            GpuUsePanel(),
            KvQueuePanel(),
            TimelinePanel(),
            EventsPanel(),
            Footer(self.PLACES, can_choose_again=again),
        ]

    # -- drawing -----------------------------------------------------------------------------

    def show(self, s: Snapshot) -> None:
        """Draws ``s`` in every panel. The caller holds the batch."""
        self.pending_rate.observe(s)
        load = self.query_one(LoadPanel)
        load.target, load.taken = self.pending_rate.shown, self.pending_rate.pending is None
        first = self.snapshot is None
        super().show(s)
        if first:  # there is no layout yet
            self.call_after_refresh(self._share_keys)

    def show_past(self, s: Snapshot) -> None:
        load = self.query_one(LoadPanel)
        load.target, load.taken = s.load.target_rps, True
        super().show_past(s)

    def _share_keys(self) -> None:
        """The footer leaves out the keys that the load's rule shows."""
        footer = next((p for p in self._panels if isinstance(p, Footer)), None)
        load = next((p for p in self._panels if isinstance(p, LoadPanel)), None)
        if footer is None or load is None:
            return
        above = load.display and bool(load.region.area) and load.shows_keys
        if footer.load_keys_above != above:
            footer.load_keys_above = above
            footer.repaint()

    def tick(self) -> None:
        """Removes a notice that has run out and a rate that the session has not taken."""
        super().tick()
        self._share_keys()
        if self.pending_rate.expire():
            self._show_target()

    def _show_target(self) -> None:
        panel = self.query_one(LoadPanel)
        panel.target, panel.taken = self.pending_rate.shown, self.pending_rate.pending is None
        panel.repaint()

    # -- keys --------------------------------------------------------------------------------

    def _steerable(self) -> Snapshot | None:
        """The snapshot if there is a load to steer, else None, with the reason in the footer."""
        s = self._newest
        if s is None or s.state == "starting":
            self.notify_briefly("still starting: there is nothing to load yet")
            return None
        if s.state in OVER:
            self.notify_briefly("the session is over; q leaves")
            return None
        return s

    def _set_rate(self, s: Snapshot, rps: float) -> None:
        if rps > 0 and not self._may_load and not s.target.owned and not s.load.sent:

            def answered(yes: bool | None) -> None:
                if yes:
                    self._may_load = True
                    self._set_rate(s, rps)

            self.app.push_screen(ConfirmScreen(s.target.url, rps), answered)
            return
        self.shell.send(SetRate(rps))
        self.pending_rate.ask(rps)
        self._show_target()

    def _change(self, rps: float, up: bool) -> None:
        """Asks for ``rps``, or says why it is no change."""
        s = self._steerable()
        if s is None:
            return
        if rps != self.pending_rate.shown:
            self._set_rate(s, rps)
        elif up and rps:
            self.notify_briefly(f"{rate(rps)} is the maximum (--max-rate)")
        else:
            self.notify_briefly("the rate is 0 already" if not up else "the rate is 0; ↑ begins")

    def action_nudge(self, delta: float) -> None:
        self._change(self.pending_rate.after(delta), delta > 0)

    def action_percent(self, percent: float) -> None:
        self._change(self.pending_rate.percent(percent), percent > 0)

    def action_times(self, times: float) -> None:
        self._change(self.pending_rate.clamp((self.pending_rate.shown or 0.0) * times), times > 1)

    def action_go(self, begin: str = "") -> None:
        """Opens the box for a rate, with ``begin`` in it."""
        s = self._steerable()
        if s is None:
            return

        def typed(rps: float | None) -> None:
            if rps is not None:
                self._set_rate(s, rps)

        self.app.push_screen(RateScreen(self.pending_rate.shown, s.load.max_rate, begin), typed)

    def action_pause(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if s.state == "paused":
            self.shell.send(Resume())
        elif s.state == "running":
            self.shell.send(Pause())
        else:
            self.notify_briefly("nothing is being sent; ↑ begins")

    def action_next_phase(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if s.phase is None or s.phase.count == 1:
            self.notify_briefly("this session has one phase without end")
        elif s.phase.index + 1 >= s.phase.count:
            self.notify_briefly("this is the last phase; q ends the run")
        else:
            self.shell.send(NextPhase())

    def action_phase_again(self) -> None:
        if self._steerable() is not None:
            self.shell.send(NextPhase("again"))

    def action_undo(self) -> None:
        if self._steerable() is not None:
            self.shell.send(Undo())

    def action_mark(self) -> None:
        if self._steerable() is None:
            return

        def typed(note: str | None) -> None:
            if note is not None:
                self.shell.send(Mark(note))

        self.app.push_screen(MarkScreen(), typed)

    def action_record(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if s.recording_s is None:
            self.shell.send(Record())
        elif self.app.is_web or not s.recording_unnamed:  # a browser names no file on this disk
            self.shell.send(Record(on=False))
        else:
            self.shell.name_recording(s.recording_s, lambda: None)

    def action_log(self) -> None:
        s = self._newest
        if s is None or not (s.target.owned or s.backend_log) or s.out_dir is None:
            self.notify_briefly("no log: rvtop did not start this server")
        else:
            self.app.push_screen(LogScreen(Path(s.out_dir) / (s.backend_log or BACKEND_LOG)))

    def action_again(self) -> None:
        if self._newest is not None and self._newest.state in OVER and self._can_choose_again:
            self.shell.choose_again()
