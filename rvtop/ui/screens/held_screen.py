"""A screen whose picture can stand still: at now, or at a second before it. The load goes on."""

from __future__ import annotations

import math

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.chart_view import ChartView
from rvtop.ui.past import moved, next_mark
from rvtop.ui.screens.ghost_keys import GhostKeys
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.time_chart import TimeChart


class HeldScreen(GhostKeys):
    """``snapshot`` is the newest one, or what the screen was frozen at, or a second before that."""

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.view = ChartView()
        self._newest: Snapshot | None = None
        self._frozen = False
        self._held: Snapshot | None = None  # what was drawn when the screen was frozen

    def on_mount(self) -> None:
        for panel in self.query(Panel):
            panel.view = self.view
        super().on_mount()

    @property
    def newest(self) -> Snapshot | None:
        return self._newest

    def _arrange(self, s: Snapshot) -> None:
        """Finds the places of the panels that show ``s``."""
        raise NotImplementedError

    # -- drawing -----------------------------------------------------------------------------

    def show(self, s: Snapshot) -> None:
        """Draws ``s`` in every panel, unless the picture stands. The caller holds the batch."""
        self._newest = s
        if self._frozen and s.state in OVER:
            self._frozen, self.view.cursor_s = False, None
        if self._frozen and self.snapshot is not None:
            return
        self.query_one(Footer).frozen = self._frozen
        self.view.ghost = self._ghosts.shown
        self._arrange(s)
        super().show(s)

    def show_past(self, s: Snapshot) -> None:
        """Draws an earlier ``s`` where everything stands now. The caller holds the batch."""
        self.snapshot = s
        for panel in self._panels:
            panel.show_past(s)

    def _show_again(self) -> None:
        """Draws the same snapshot with what the view has now."""
        self.view.ghost = self._ghosts.shown
        s = self.snapshot
        if s is None:
            return
        with self.app.batch_update():
            if self.view.cursor_s is None:
                self._arrange(s)
                super().show(s)
            else:
                self._go_to(self.view.cursor_s)

    # -- keys --------------------------------------------------------------------------------

    def action_window(self, step: int) -> None:
        if not self.view.step(self.snapshot, step):
            most = "longest" if step > 0 else "shortest"
            self.notify_briefly(f"{(self.view.window_s or 0) // 60} min is the {most} window")
            return
        for chart in self.query(TimeChart):
            chart.redraw()

    def action_freeze(self) -> None:
        s = self._newest
        if s is None or s.state in OVER:
            self.notify_briefly("nothing moves here any more")
            return
        self._freeze(not self._frozen)

    def _freeze(self, frozen: bool) -> None:
        self._frozen, self._held, self.view.cursor_s = frozen, self.snapshot, None
        footer = self.query_one(Footer)
        footer.frozen = frozen
        footer.repaint()
        if not frozen and self._newest is not None:
            with self.app.batch_update():
                self.show(self._newest)

    def action_instant(self, by_s: float) -> None:
        s = self.snapshot
        if s is not None:
            held = (self._held if self._frozen else None) or s
            self._go_to(moved(held, self.view.cursor_s, by_s, self.view.window(held)))

    def action_go_to(self, t_s: float) -> None:
        """Freezes at the second of ``t_s``, where the charts show it."""
        s = self.snapshot
        if s is None:
            return
        held = (self._held if self._frozen else None) or s
        shown = moved(held, float(math.floor(t_s)), 0, self.view.window(held))
        if shown > t_s:
            self.notify_briefly("that is before what the charts show; W shows more time")
        else:
            self._go_to(shown)

    def action_next_mark(self) -> None:
        s = self.snapshot
        if s is None:
            return
        held = (self._held if self._frozen else None) or s
        t_s = next_mark(held, self.view.cursor_s, self.view.window(held))
        if t_s is None:
            self.notify_briefly("no mark, no phase in this window; m marks, W shows more time")
        else:
            self._go_to(t_s)

    def _go_to(self, t_s: float) -> None:
        """Freezes, and shows the second that begins at ``t_s`` in every panel."""
        if not self._frozen:
            self._freeze(True)
        held = self._held
        if held is None:
            return
        shown = self.shell.past.at(t_s, held)
        if shown is None:
            self.notify_briefly("of this second there is only what the charts show")
        self.view.cursor_s = t_s
        with self.app.batch_update():
            self.show_past(shown or held)

    def action_back(self) -> None:
        """Closes the time cursor, and follows again; then as any screen."""
        if self.view.cursor_s is not None:
            self._freeze(False)
        else:
            super().action_back()
