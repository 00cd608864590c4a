"""A screen of panels and charts: their places, the window, the ghost, and a picture that stands still."""

from __future__ import annotations

from textual.widget import Widget

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.folding import Folding
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.screens.held_screen import HeldScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.places import Places
from rvtop.ui.widgets.ttft import TtftPanel


class ChartScreen(HeldScreen):
    """Its panels stand where ``rvtop.ui.layout`` says."""

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self._folding = Folding()

    @property
    def focus_chain(self) -> list[Widget]:
        """The panels in their own order; Textual's is row by row across the columns."""
        return [panel for panel in self._panels if panel.focusable]

    # -- drawing -----------------------------------------------------------------------------

    def _arrange(self, s: Snapshot) -> None:
        """Folds what has nothing to say, and finds all panels' places."""
        wanting = [panel for panel in self._panels if panel.wants(s)]
        quiet = {panel.name_in_layout: panel.quiet(s) for panel in wanting if panel.CHART}
        hold = self.has_class("zoom") or self.panel_in_focus is not None
        self.query_one(Places).show(s, self._folding.observe(s.t_s, quiet, hold=hold))

    # -- keys --------------------------------------------------------------------------------

    def action_by_rate(self) -> None:
        s = self.snapshot
        if not self.view.by_rate and (s is None or RateSpan.of(s.series, 1) is None):
            self.notify_briefly("no rate has stood for 10 s yet; then x draws the charts against it")
            return
        self.view.by_rate = not self.view.by_rate
        self._show_again()

    def action_hide_line(self, panel: str, entry: str) -> None:
        """Hides a line of a panel's chart, or shows it again."""
        self.view.hidden ^= {(panel, entry)}
        self._repaint_panel(panel)

    def action_hide_next(self) -> None:
        panel = self.panel_in_focus
        if panel is None or not panel.LEGEND:
            self.notify_briefly("choose a panel with a legend: tab, then H hides its lines one by one")
            return
        self.view.hide_next(panel.name_in_layout, panel.LEGEND)
        self._repaint_panel(panel.name_in_layout)

    def _repaint_panel(self, name: str) -> None:
        for panel in self._panels:
            if panel.name_in_layout == name:
                panel.repaint()

    def action_zoom(self) -> None:
        if self.has_class("zoom"):
            self._unzoom()
            return
        focused = self.focused
        panel = focused if isinstance(focused, Panel) else self.query_one(TtftPanel)
        self.add_class("zoom")
        self.query_one(Places).zoom(panel.name_in_layout)
        panel.focus()

    def _unzoom(self) -> None:
        self.remove_class("zoom")
        self.query_one(Places).zoom(None)

    def action_back(self) -> None:
        if self.has_class("zoom") and self.view.cursor_s is None:
            self._unzoom()
        else:
            super().action_back()
