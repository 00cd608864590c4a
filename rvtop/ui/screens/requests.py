"""Requests: where each one's TTFT went, the slowest first, and those that failed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.prompts_file import prompt_row, prompt_text
from rvtop.ui.request_lines import ORDERS, curl
from rvtop.ui.screens.list_screen import ListScreen
from rvtop.ui.screens.steering import Steering
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.header import Header
from rvtop.ui.widgets.place_footer import PlaceFooter
from rvtop.ui.widgets.requests import ListState, PartsPanel, RequestDetail, RequestList


class RequestsScreen(ListScreen, Steering):
    PLACES: ClassVar[str] = "A*Q"
    HINT = "id, model, engine, phase, finish or error"
    state: ListState
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-high")]  # noqa: RUF012  (Textual's own declaration)
    CSS = """
    RequestsScreen { layout: vertical; }
    RequestsScreen.-low PartsPanel, RequestsScreen.-low RequestDetail { display: none; }
    """

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.state = ListState()

    def compose(self) -> ComposeResult:
        yield Header()
        yield PartsPanel()
        yield RequestList(self.state)
        yield RequestDetail(self.state)
        yield PlaceFooter(self.PLACES)

    def _listed(self) -> Snapshot | None:
        """The snapshot if something is listed, else None, with a notice."""
        s = self.snapshot
        if s is None or self.state.row(s) is None:
            self.notify_briefly("no request is listed")
            return None
        return s

    # -- keys --------------------------------------------------------------------------------

    def action_order(self) -> None:
        self.state.order = ORDERS[(ORDERS.index(self.state.order) + 1) % len(ORDERS)]
        self.redraw()

    def action_errors(self) -> None:
        self.state.errors_only = not self.state.errors_only
        self.redraw()

    def action_prompt(self) -> None:
        s = self._listed()
        found = self.state.row(s) if s is not None else None
        if s is None or found is None:
            return
        if self.state.text:
            self.state.text = ""
        else:
            try:
                self.state.text = prompt_text(prompt_row(s.out_dir, found[1].prompt))
            except ValueError as error:
                self.notify_briefly(str(error))
                return
            self.state.chosen = found[1].id  # the text stays with its request
        self.redraw()

    def action_copy(self) -> None:
        """Copies the chosen request as a command."""
        s = self._listed()
        found = self.state.row(s) if s is not None else None
        if s is None or found is None:
            return
        try:
            text = curl(s.target.url, found[1], prompt_row(s.out_dir, found[1].prompt))
        except ValueError as error:
            self.notify_briefly(f"not copied: {error}")
            return
        self.copy(text, f"request {found[1].id} as curl")

    def action_back(self) -> None:
        """Closes the prompt, then the filter, then the list of errors."""
        state = self.state
        if state.text:
            state.text = ""
        elif state.filter:
            state.filter = ""
        elif state.errors_only:
            state.errors_only = False
        else:
            super().action_back()
        self.redraw()
