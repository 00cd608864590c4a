"""The end card: shown once when a session ends; its figures, their worth, and what to do next."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from rvtop.contract.run_files import BACKEND_LOG
from rvtop.contract.snapshot import Snapshot
from rvtop.results.end_facts import EndFacts
from rvtop.ui.end_lines import AGAIN, COMPARE, LOG, Step, steps_of
from rvtop.ui.screens.choose_side import RUNS
from rvtop.ui.screens.list_screen import LIST_KEYS
from rvtop.ui.screens.log import LogScreen
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.sides import run_key
from rvtop.ui.widgets.end import EndPanel, EndState
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.place_footer import PlaceFooter

LEAST_CHART = 5


class EndScreen(SessionScreen):
    PLACES: ClassVar[str] = "AZ"
    BINDINGS: ClassVar[list[BindingType]] = LIST_KEYS
    CSS = """
    EndScreen { layout: vertical; }
    EndScreen LatencyTimePanel { height: 1fr; }
    """

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.state = EndState()
        self._asked = False

    def compose(self) -> ComposeResult:
        yield Header()
        yield EndPanel(self.state)
        yield LatencyTimePanel()
        yield PlaceFooter(self.PLACES)

    def show(self, s: Snapshot) -> None:
        if not self._asked:
            self._asked = True
            self._steps(s)
            if s.out_dir and s.load.sent:
                self.run_worker(self._read(s.out_dir), exclusive=True)
            else:
                self.state.facts = EndFacts()
        super().show(s)
        self._share(s)

    async def _read(self, folder: str) -> None:
        self.state.facts = await asyncio.to_thread(_facts, folder)
        s = self.snapshot
        if s is not None and self.is_attached:
            self._steps(s)
            self._redraw()

    def _steps(self, s: Snapshot) -> None:
        again = self.shell.can_choose_again
        self.state.steps = steps_of(s, self.state.facts, can_choose_again=again)

    def _redraw(self) -> None:
        if self.snapshot is not None:
            with self.app.batch_update():
                self.show(self.snapshot)

    def _share(self, s: Snapshot) -> None:
        """The card gets the rows that it fills, the whole run's chart the rest if that is enough for one."""
        card, chart = self.query_one(EndPanel), self.query_one(LatencyTimePanel)
        rest = self.size.height - 2 - card.wanted(s, self.size.width)
        chart.display = rest >= LEAST_CHART and bool(s.series.t_s) and s.load.sent > 0
        card.styles.height = card.wanted(s, self.size.width) if chart.display else "1fr"

    def on_resize(self) -> None:
        if self.snapshot is not None:
            self._share(self.snapshot)
        super().on_resize()

    # -- keys --------------------------------------------------------------------------------

    def action_cursor(self, step: int) -> None:
        self.state.cursor = max(0, min(len(self.state.steps) - 1, self.state.cursor + step))
        self._redraw()

    @property
    def _step(self) -> Step | None:
        steps = self.state.steps
        return steps[min(self.state.cursor, len(steps) - 1)] if steps else None

    async def action_do(self) -> None:
        """Does the step at the cursor; of one that is another program's, its command is copied."""
        step, s, facts = self._step, self.snapshot, self.state.facts
        if step is None or s is None:
            self.notify_briefly("nothing more can be done here; q leaves")
        elif (
            step.does == COMPARE and facts is not None and facts.other is not None and facts.side is not None
        ):
            for name, side in (("a", facts.other), ("b", facts.side)):
                self.shell.sides.runs[run_key(side.where)] = side
                self.shell.sides.choose(name, run_key(side.where))
            await self.app.run_action("app.show_screen('compare')")
        elif step.does == LOG and s.out_dir:
            self.app.push_screen(LogScreen(Path(s.out_dir) / (s.backend_log or BACKEND_LOG)))
        elif step.does == AGAIN:
            self.shell.choose_again()
        else:
            self.copy(step.command, f"“{step.command}”: q leaves, then paste it")

    def action_copy(self) -> None:
        step = self._step
        if step is not None:
            self.copy(step.command, f"“{step.command}”")
        else:
            super().action_copy()

    def action_back(self) -> None:
        """Back to the live screen, whose charts hold the run."""
        self.app.pop_screen()


def _facts(folder: str) -> EndFacts:
    from rvtop.results.end_facts import end_facts  # files are read only once they are needed

    return end_facts(Path(folder), RUNS)
