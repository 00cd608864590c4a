"""The box that lists what can be compared: the load of now and before, a showdown's rows, stored runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from rvtop.ui.draw import Line
from rvtop.ui.format import MISSING, clip, fixed, sig3
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.shell import shell_of
from rvtop.ui.sides import run_key

#: Where runs are that were given no folder.
RUNS = Path("runs")
NONE = "No runs in runs/; rvtop run leaves one there"
_MOST_ROWS = 16


@dataclass(frozen=True, slots=True)
class SideChoice:
    """A row: what it is chosen by, and its cells."""

    key: str
    when: str
    label: str
    name: str
    headline: str = ""


class _Rows(Widget):
    DEFAULT_CSS = """
    _Rows { height: auto; background: $rv-background; }
    """

    def __init__(self, dialog: ChooseSideScreen) -> None:
        super().__init__()
        self._dialog = dialog

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        room = self.app.size.height - 8
        return max(1, min(len(self._dialog.choices), _MOST_ROWS, room))

    def render_line(self, y: int) -> Strip:
        dialog, styles, width = self._dialog, shell_of(self).rich_styles, self.size.width
        first = max(0, min(dialog.cursor - self.size.height // 2, len(dialog.choices) - self.size.height))
        number = first + y
        if number >= len(dialog.choices):
            return Strip.blank(width, styles.base)
        one, chosen = dialog.choices[number], number == dialog.cursor
        line = Line("▸ " if chosen else "  ", styles.command).put(fixed(one.when, 17), styles.quiet)
        line.put(fixed(one.label, 14) + " ", styles.cursor if chosen else styles.strong)
        head = one.headline if width >= 70 else ""
        name = max(8, width - line.width - len(head) - 1)
        line.put(fixed(one.name, name), styles.base).put(" " + head, styles.client)
        return line.cut(width).strip(width, styles.base)


class ChooseSideScreen(Dialog[tuple[str, str] | None]):
    """Returns the side, "a" or "b", and the key of what was chosen for it; None when it was left. ``enter``
    means ``side`` (empty: a run is chosen for no side); a letter that of its name. Stored runs are looked
    for in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("home", "move(-1000)", show=False),
        Binding("end", "move(1000)", show=False),
        Binding("enter", "choose('')", show=False),
        Binding("a", "choose('a')", show=False),
        Binding("b", "choose('b')", show=False),
        Binding("escape,R", "leave", show=False),
    ]

    def __init__(self, side: str, known: Sequence[SideChoice], runs: Path = RUNS) -> None:
        super().__init__()
        self._side, self._runs = side, runs
        self.choices = list(known)
        self.cursor = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            side = self._side.upper()
            box.border_title = f"{side}: choose" if side else "stored runs"
            box.border_subtitle = f"enter as {side}   a b as A, as B   esc" if side else "enter   esc"
            yield _Rows(self)
            yield Static("looking for stored runs …", id="found", classes="quiet", markup=False)

    def on_mount(self) -> None:
        if self.app.is_web:
            self._say("stored runs are chosen in the terminal: a browser sees this session alone")
        else:
            self._look()

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        from rvtop.results.stored import stored_runs  # only once it is asked for

        found = [
            SideChoice(
                run_key(row.folder),
                row.started_at.replace("T", " ")[:16],
                row.label,
                f"{row.name}  {row.folder}" + (f"  {row.end}" if row.end not in ("", "done") else ""),
                f"p99 {sig3(row.ttft_p99_ms)} ms  {sig3(row.tps)} tok/s  {_percent(row.completed_pct)}",
            )
            for row in stored_runs(self._runs)
        ]
        self.app.call_from_thread(self.take, found)

    def take(self, found: Sequence[SideChoice]) -> None:
        """Lists the stored runs below what was known."""
        if self.is_attached:
            self.choices += found
            self._say("" if found else NONE)

    def _say(self, text: str) -> None:
        self.query_one("#found", Static).update(clip(text, 200))
        self.query_one(_Rows).refresh(layout=True)

    def action_move(self, step: int) -> None:
        self.cursor = max(0, min(len(self.choices) - 1, self.cursor + step))
        self.query_one(_Rows).refresh()

    def action_choose(self, side: str) -> None:
        if self.choices:
            self.dismiss((side or self._side, self.choices[self.cursor].key))

    def action_leave(self) -> None:
        self.dismiss(None)


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g} %"
