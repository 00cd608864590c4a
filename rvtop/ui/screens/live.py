"""The live screen: clients on the left, servers on the right, what you command on top."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from rvtop.contract.command import SetConcurrency, SetRate
from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.format import rate
from rvtop.ui.rate_memory import Means
from rvtop.ui.screens.about_server import AboutServer
from rvtop.ui.screens.chart_screen import ChartScreen
from rvtop.ui.screens.steering import Steering
from rvtop.ui.screens.verdict_keys import VerdictKeys
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.arms import ArmsPanel
from rvtop.ui.widgets.banner import Banner
from rvtop.ui.widgets.change import ChangePanel
from rvtop.ui.widgets.comb import CombPanel
from rvtop.ui.widgets.deployments import DeploymentsPanel
from rvtop.ui.widgets.engine_charts import EngineChartsPanel
from rvtop.ui.widgets.engines import EnginesPanel
from rvtop.ui.widgets.events import EventsPanel
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.gpu import GpuPanel
from rvtop.ui.widgets.gpu_use import GpuUsePanel
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.knee import KneeInFlightPanel, KneePanel, KneeTokensPanel
from rvtop.ui.widgets.kvqueue import KvQueuePanel
from rvtop.ui.widgets.latency import LatencyPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.load import LoadPanel
from rvtop.ui.widgets.money import MoneyPanel
from rvtop.ui.widgets.nodes import NodesPanel
from rvtop.ui.widgets.notice import NoticePanel
from rvtop.ui.widgets.pairs import PairsRow
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.places import Places
from rvtop.ui.widgets.probes import ProbesPanel
from rvtop.ui.widgets.replicas import ReplicasPanel
from rvtop.ui.widgets.saturation import SaturationPanel
from rvtop.ui.widgets.served import ServedBesidePanel, ServedPanel
from rvtop.ui.widgets.slowest import LivePartsPanel, SlowestPanel
from rvtop.ui.widgets.steps import StepsPanel
from rvtop.ui.widgets.tasks import TasksPanel
from rvtop.ui.widgets.timeline import TimelinePanel
from rvtop.ui.widgets.tokens import TokensPanel
from rvtop.ui.widgets.ttft import TtftPanel
from rvtop.ui.widgets.verdict import VerdictPanel


class LiveScreen(Steering, VerdictKeys, AboutServer, ChartScreen):
    """Draws each new snapshot, and turns keys into commands."""

    PLACES: ClassVar[str] = "A*L"

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self._can_choose_again = shell.can_choose_again
        self._held_means: Means | None = None  # of the instant at which the picture was frozen

    def compose(self) -> ComposeResult:
        yield Places(*self.panels())

    def panels(self) -> list[Panel]:
        """Its panels, in their order from above to below, which is that of ``tab``."""
        again = self._can_choose_again
        return [
            Header(),
            LoadPanel(),
            NoticePanel(),
            VerdictPanel(),
            SaturationPanel(),
            ProbesPanel(),
            CombPanel(),
            PairsRow(),
            Banner(can_choose_again=again),
            StepsPanel(),
            TtftPanel(),
            LatencyPanel(),
            ArmsPanel(),
            TasksPanel(),
            ChangePanel(),
            ServedPanel(),
            LatencyTimePanel(),
            TokensPanel(),
            ReplicasPanel(),
            EnginesPanel(),
            EngineChartsPanel(),
            GpuPanel(),
            MoneyPanel(),
            DeploymentsPanel(),
            NodesPanel(),
            KvQueuePanel(),
            ServedBesidePanel(),
            InFlightPanel(),
            GpuUsePanel(),
            LivePartsPanel(),
            KneeInFlightPanel(),
            KneePanel(),
            KneeTokensPanel(),
            SlowestPanel(),
            TimelinePanel(),
            EventsPanel(),
            Footer(self.PLACES, can_choose_again=again),
        ]

    # -- drawing -----------------------------------------------------------------------------

    def show(self, s: Snapshot) -> None:
        """Draws ``s`` in every panel. The caller holds the batch."""
        first = self.snapshot is None
        super().show(s)
        if first:  # there is no layout yet
            self.call_after_refresh(self._share_keys)

    def put_target(self) -> None:
        """A picture that stands keeps the rate of its second."""
        if not self._frozen:
            super().put_target()

    def _send_rate(self, s: Snapshot, command: SetRate | SetConcurrency) -> None:
        super()._send_rate(s, command)
        asked = self._frozen and self.pending_rate.pending is not None
        if asked and isinstance(command, SetRate):
            self.notify_briefly(f"{rate(command.rps)} rps asked for; the picture stands, f follows again")

    def _freeze(self, frozen: bool) -> None:
        self._held_means = self.query_one(LoadPanel).means
        super()._freeze(frozen)

    def show_past(self, s: Snapshot) -> None:
        load = self.query_one(LoadPanel)
        load.target, load.taken = s.load.target_rps, True
        load.means = self._held_means if s is self._held else None
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

    # -- keys --------------------------------------------------------------------------------

    def action_again(self) -> None:
        if self._newest is not None and self._newest.state in OVER and self._can_choose_again:
            self.shell.choose_again()
