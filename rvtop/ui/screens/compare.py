"""Compare: two stored runs, two rows of a showdown, or now against before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import replay_line
from rvtop.errors import UserError
from rvtop.results.compare import ALL, Comparison, Side, short_names
from rvtop.ui import pair_lines
from rvtop.ui.compare_lines import row_text, shown_rows
from rvtop.ui.format import MISSING, wall
from rvtop.ui.ghost import Ghost
from rvtop.ui.screens.choose_side import ChooseSideScreen, SideChoice
from rvtop.ui.screens.list_screen import LIST_KEYS
from rvtop.ui.screens.steering import Steering
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.sides import GHOST, LIVE, PAIR_A, PAIR_B, folder_of, row_key
from rvtop.ui.widgets.compare import LEAST_CHART, MOST_CHART, Compared, ComparePanel, OverlayPanel
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.pairs import PairsPanel
from rvtop.ui.widgets.place_footer import PlaceFooter


class CompareScreen(Steering):
    PLACES: ClassVar[str] = "A*C"
    BINDINGS: ClassVar[list[BindingType]] = LIST_KEYS
    CSS = "CompareScreen { layout: vertical; }"

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.sides = shell.sides
        self.compared = Compared(self.sides)

    def compose(self) -> ComposeResult:
        yield Header()
        yield ComparePanel(self.compared)
        yield PairsPanel(self.compared)
        yield OverlayPanel(self.compared)
        yield PlaceFooter(self.PLACES)

    @property
    def _ghost(self) -> Ghost | None:
        return self.shell.ghosts.ghost

    def show(self, s: Snapshot) -> None:
        self.compared.found = self.sides.comparison(s, self._ghost)
        found = self.compared.found
        if found is not None and self.sides.part not in found.parts:
            self.sides.part = ALL
        super().show(s)
        self._share(s)

    def _share(self, s: Snapshot) -> None:
        """The figures get the rows that they fill, their TTFT the rest, if that is enough for a chart."""
        stored, paired = self.query_one(ComparePanel), self.query_one(PairsPanel)
        paired.display = self.sides.shows_pairs(s, self._ghost)
        stored.display = not paired.display
        figures = paired if paired.display else stored
        chart = self.query_one(OverlayPanel)
        both = self.size.height - 2
        if both < LEAST_CHART + 5 or self.compared.found is None or self.compared.refused:
            chart.display = False
            figures.styles.height = "1fr"
            return
        chart.display = True
        rows = min(figures.wanted(s, self.size.width), both - LEAST_CHART)
        figures.styles.height = rows
        chart.styles.height = min(both - rows, MOST_CHART)

    def on_resize(self) -> None:
        if self.snapshot is not None:
            self._share(self.snapshot)
        super().on_resize()

    def _redraw(self) -> None:
        if self.snapshot is not None:
            with self.app.batch_update():
                self.show(self.snapshot)

    def _found(self) -> Comparison | None:
        """What is compared; None, with a notice, while nothing is."""
        if self.compared.found is None:
            self.notify_briefly("nothing is compared yet: a and b choose, R lists stored runs")
        elif self.compared.refused:
            self.notify_briefly("refused: the two did different work")
        else:
            return self.compared.found
        return None

    # -- choosing ----------------------------------------------------------------------------

    def action_side(self, side: str) -> None:
        """Opens the list of what can stand at ``side``."""
        if self.snapshot is not None:
            self.app.push_screen(ChooseSideScreen(side, self._known(self.snapshot)), self.take)

    def action_runs(self) -> None:
        """Lists stored runs, for A where there is none yet."""
        if self.snapshot is not None:
            a, _ = self.sides.keys(self.snapshot, self._ghost)
            self.app.push_screen(ChooseSideScreen("b" if a else "a", ()), self.take)

    def _known(self, s: Snapshot) -> list[SideChoice]:
        made = []
        if s.load.sent:
            if s.pairs is not None:
                made.append(SideChoice(PAIR_A, "pairs", s.pairs.a, "A of the live pairs"))
                made.append(SideChoice(PAIR_B, "pairs", s.pairs.b, "B of the live pairs"))
            made.append(SideChoice(LIVE, "now", s.target.topology or MISSING, "the last 10 s of this load"))
        if self._ghost is not None:
            before = self._ghost.snapshot
            when = wall(before.unix_s)
            made.append(SideChoice(GHOST, when, before.target.topology or MISSING, "the ghost: before"))
        for score in s.showdown.scores if s.showdown is not None else ():
            if score.repeats:
                made.append(SideChoice(row_key(score.name), "showdown", score.name, "its row"))
        return made

    def take(self, answer: tuple[str, str] | None) -> None:
        """Compares what was chosen for a side."""
        if answer is None:
            return
        side, key = answer
        if folder_of(key) and key not in self.sides.runs:
            self.compared.reading = folder_of(key)
            self._redraw()
            self.run_worker(self._read(side, key), exclusive=True)
            return
        self.sides.choose(side, key)
        self._redraw()

    async def _read(self, side: str, key: str) -> None:
        try:
            self.sides.runs[key] = await asyncio.to_thread(_stored, Path(folder_of(key)))
            self.sides.choose(side, key)
        except UserError as error:
            self.notify_briefly(str(error))
        self.compared.reading = ""
        self._redraw()

    # -- keys --------------------------------------------------------------------------------

    def action_differs(self) -> None:
        """Shows what differs of the two, but for their figures."""
        s, found = self.snapshot, self.compared.found
        if s is None or found is None:
            self._found()
            return
        keys = self.sides.keys(s, self._ghost)
        places = [(folder_of(key), "server") for key in keys]
        if self.sides.shows_pairs(s, self._ghost):
            places = [(s.out_dir or "", "server" if key == PAIR_A else "server_b") for key in keys]
        self.run_worker(self._show_differing(found, places), exclusive=True, group="differs")

    async def _show_differing(self, found: Comparison, places: list[tuple[str, str]]) -> None:
        from rvtop.results.differing import differing_runs, differing_servers, server_facts_of

        lines = differing_runs(found)
        if all(folder for folder, _ in places):
            told = [await asyncio.to_thread(server_facts_of, Path(folder), key) for folder, key in places]
            lines += differing_servers(*told)
        a, b = short_names(found.a, found.b)
        await self.app.push_screen(TextScreen(f"what differs: A {a} → B {b}", lambda: lines))

    def action_cursor(self, step: int) -> None:
        found, s = self.compared.found, self.snapshot
        if found is not None and s is not None:
            rows = len(shown_rows(found, self.sides.part, 1000))
            if s.pairs is not None and self.sides.shows_pairs(s, self._ghost):
                rows = len(s.pairs.rows)
            self.sides.row = max(0, min(self.sides.row + step, rows - 1))
            self._redraw()

    def action_reference(self) -> None:
        """A becomes B, and B the reference."""
        if self.compared.found is None:
            self._found()
        elif self.snapshot is not None:
            self.sides.swap(self.snapshot, self._ghost)
            self._redraw()

    def action_part(self) -> None:
        found = self._found()
        if found is None:
            return
        if len(found.parts) < 2:
            self.notify_briefly("there is no phase that both have")
            return
        self.sides.step(found)
        self._redraw()

    def action_force(self) -> None:
        found = self.compared.found
        if found is None or not found.refused:
            self.notify_briefly("nothing is refused")
            return
        self.sides.forced = "" if self.sides.forced else found.refusal
        self._redraw()

    def action_copy(self) -> None:
        """Copies the row at the cursor."""
        found, s = self._found(), self.snapshot
        if s is not None and s.pairs is not None and self.sides.shows_pairs(s, self._ghost):
            shown = self.query_one(PairsPanel).pairs(s)
            self.copy(pair_lines.row_text(shown or s.pairs, self.sides.row), "the row")
        elif found is not None:
            rows = shown_rows(found, self.sides.part, 1000)
            if not rows:
                self.notify_briefly("neither of the two has a figure")
                return
            self.copy(row_text(rows[min(self.sides.row, len(rows) - 1)], self.sides.part), "the row")

    async def action_open(self) -> None:
        """Lists the requests of the load that runs; of a stored run says what does."""
        s = self.snapshot
        keys = self.sides.keys(s, self._ghost) if s is not None else ()
        stored = next((folder for key in reversed(keys) if (folder := folder_of(key))), "")
        if {LIVE, PAIR_A, PAIR_B} & set(keys) or not stored:
            await self.app.run_action("app.show_screen('requests')")
        else:
            self.notify_briefly(f"of a stored run {replay_line(stored)} lists them, under 3")

    def action_copy_command(self) -> None:
        s = self.snapshot
        command = self.sides.command(s, self._ghost) if s is not None else ""
        if command:
            self.copy(command, "the command line")
        else:
            super().action_copy_command()


def _stored(folder: Path) -> Side:
    from rvtop.results.stored import read_summary, side_of  # only once it is asked for

    return side_of(folder, read_summary(folder))
