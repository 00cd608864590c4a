"""The screen of ``rvtop batch``: its lanes, while it runs and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from rvtop.batch.job import Job
from rvtop.errors import UserError
from rvtop.text import told
from rvtop.ui.batch_lines import BatchView, batch_lines
from rvtop.ui.glyphs import AsciiGlyphs
from rvtop.ui.look import Look
from rvtop.ui.theme import Styles
from rvtop.ui.themed_app import ThemedApp

_DRAWN_S = 0.25
_DRAWN_STILL_S = 1.0


class BatchLanes(Widget):
    """Draws the view that ``view`` gives."""

    DEFAULT_CSS = "BatchLanes { width: 1fr; height: 1fr; background: $rv-background; }"
    ALLOW_SELECT = False

    def __init__(self, view: Callable[[], BatchView], styles: Callable[[], Styles]) -> None:
        super().__init__()
        self._view, self._styles = view, styles
        self._strips: list[Strip] = []

    def draw(self) -> None:
        """Draws what there is now."""
        styles = self._styles()
        lines = batch_lines(self._view(), styles, *self.size)
        self._strips = [line.strip(self.size.width, styles.base) for line in lines]
        self.refresh()

    def on_resize(self) -> None:
        self.draw()

    def render_line(self, y: int) -> Strip:
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)


class BatchScreen(Screen[None]):
    """Nothing but the lanes."""

    def __init__(self, view: Callable[[], BatchView], styles: Callable[[], Styles]) -> None:
        super().__init__()
        self._view, self._styles = view, styles

    def compose(self) -> ComposeResult:
        yield BatchLanes(self._view, self._styles)


class BatchApp(ThemedApp):
    """Runs ``job`` while it shows it. ``end`` is told how it ended, and gives the lines to show below.
    ``error`` is what the job raised."""

    TITLE = "rvtop batch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,q", "leave", show=False, priority=True),
        Binding("T", "next_theme", show=False),
    ]

    def __init__(self, job: Job, look: Look, end: Callable[[str], list[str]]) -> None:
        super().__init__(look.styles)
        self.look = look
        if look.ascii:
            self._filters.append(AsciiGlyphs())
        self._job, self._end = job, end
        self._notes: list[str] = []
        self._computing: asyncio.Task[None] | None = None
        self.error: UserError | None = None
        self.exit_code = 0
        self.how = ""  # it ended: done, failed or interrupted

    async def on_mount(self) -> None:
        await self.push_screen(BatchScreen(self._view, lambda: self.rich_styles))
        self._computing = asyncio.create_task(self._run())
        self.set_interval(_DRAWN_S if self.look.motion else _DRAWN_STILL_S, self.draw)

    def draw(self) -> None:
        """Draws what there is now."""
        for lanes in self.screen.query(BatchLanes):
            lanes.draw()

    def say(self, text: str) -> None:
        self._notes = [*self._notes[:-1], text] if len(self._notes) > 3 else [*self._notes, text]
        self.draw()

    def action_leave(self) -> None:
        """Ends what runs; what is done is kept."""
        self.leave(0)

    def leave(self, code: int) -> None:
        """The same, with an exit code of the app's own."""
        self.exit_code = code
        if self._computing is not None and not self._computing.done():
            self.how = "interrupted"
            self._computing.cancel()
        self.exit()

    async def close_handle(self) -> None:
        """Waits until nothing runs any more."""
        if self._computing is not None:
            self._computing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._computing

    async def _run(self) -> None:
        try:
            await self._job.run()
        except UserError as error:
            self.error, self.how = error, "failed"
            self._notes = [told(str(error))]
        except asyncio.CancelledError:
            self.how = "interrupted"
            raise
        else:
            self.how = "failed" if self._job.codes else "done"
            self._notes = self._end(self.how)
        self.draw()

    def _view(self) -> BatchView:
        job, over = self._job, bool(self.how)
        file, model = told(job.plan.file.name), told(job.plan.name or job.plan.model)
        return BatchView(
            f"{file} · {job.lanes[0].total} rows · {model}",
            job.lanes,
            job.clock(),
            job.began,
            over,
            self._notes,
        )
