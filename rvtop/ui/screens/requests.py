"""Requests: where each one's TTFT went, the slowest first, and those that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult

from rvtop.contract.requests import RequestRow
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.prompts_file import api_of, prompt_row, prompt_text
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

    async def action_open(self) -> None:
        """Shows the second at which the chosen request was meant to be sent."""
        s = self._listed()
        found = self.state.row(s) if s is not None else None
        if s is not None and found is not None:
            await self.shell.show_instant(max(0.0, s.t_s - (s.unix_s - found[1].unix_s)))

    def action_prompt(self) -> None:
        if self.state.text:
            self.state.text = ""
            self.redraw()
            return

        def show(_: Snapshot, request: RequestRow, row: dict[str, Any]) -> None:
            self.state.text = prompt_text(row)
            self.state.chosen = request.id  # the text stays with its request
            self.redraw()

        self._with_prompt(show, "")

    def action_copy(self) -> None:
        """Copies the chosen request as a command."""

        def copy(s: Snapshot, request: RequestRow, row: dict[str, Any]) -> None:
            command = curl(s.target.url, request, row, api_of(s.out_dir))
            self.copy(command, f"request {request.id} as curl")

        self._with_prompt(copy, "not copied: ")

    def _with_prompt(self, then: Callable[[Snapshot, RequestRow, dict[str, Any]], None], fault: str) -> None:
        """Reads the prompt of the chosen request, in a thread: the file may be long. Then calls ``then``, or
        says why not, with ``fault`` before it."""
        s = self._listed()
        found = self.state.row(s) if s is not None else None
        if s is None or found is None:
            return
        request = found[1]

        async def read() -> None:
            try:
                row = await asyncio.to_thread(prompt_row, s.out_dir, request.prompt)
            except ValueError as error:
                self.notify_briefly(f"{fault}{error}")
            else:
                then(s, request, row)

        self.run_worker(read(), exclusive=True, group="prompt")

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
