"""Help: of the panel in focus beside it, one figure at a time; asked again, all keys and all panels."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.action import Action
from rvtop.ui.draw import Line
from rvtop.ui.figure_values import value_now
from rvtop.ui.help_text import PANELS
from rvtop.ui.panel_help import PanelHelp
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.shell import shell_of
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import Panel

NAMES = 16  # the column of names and keys
LEAST_TEXT = 20  # cells beside it
#: From this width of the screen on the help of a panel stands beside it, in a box of BOX_WIDTH.
BESIDE = 100
BOX_WIDTH, MIN_HEIGHT = 50, 8


def wrapped(name: str, name_style: Style, text: str, style: Style, width: int) -> list[Line]:
    """``name`` with ``text`` beside it, on as many lines as that takes."""
    if width < NAMES + LEAST_TEXT:  # the text below its name
        rows = [Line("  ").put(part, style) for part in textwrap.wrap(text, max(1, width - 2))]
        return [Line(name, name_style), *rows] if name else rows
    parts = textwrap.wrap(text, width - NAMES) or [""]
    first = Line(name, name_style).to(NAMES).put(parts[0], style)
    return [first, *(Line().to(NAMES).put(part, style) for part in parts[1:])]


def panel_lines(help: PanelHelp, styles: Styles, width: int) -> list[Line]:
    """A panel's title, what it shows, and each figure with its source."""
    lines = [Line(help.title, styles.command)]
    lines += [Line(part, styles.quiet) for part in textwrap.wrap(help.about, max(1, width))]
    for figure in help.figures:
        lines += wrapped(figure.name, styles.strong, figure.what, styles.base, width)
        lines += wrapped("", styles.base, f"from {figure.source}", styles.quiet, width)
    return [*lines, Line()]


def figure_lines(topic: str, chosen: int, s: Snapshot | None, styles: Styles, width: int) -> list[Line]:
    """The panel's figures with what they say now; of the one that is ``chosen`` also meaning and source."""
    panel, lines = PANELS[topic], []
    lines += [Line(part, styles.quiet) for part in textwrap.wrap(panel.about, max(1, width))]
    column = min(max((len(figure.name) for figure in panel.figures), default=0) + 4, width // 2)
    for number, figure in enumerate(panel.figures):
        here = number == chosen
        line = Line("▸ " if here else "  ", styles.command)
        line.put(figure.name, styles.command if here else styles.base)
        if value := value_now(topic, figure.name, s):
            line.to(column).put(value, styles.strong if here else styles.quiet)
        lines.append(line)
        if here:
            for text, style in ((figure.what, styles.base), (f"from {figure.source}", styles.quiet)):
                parts = textwrap.wrap(text, max(1, width - 4))
                lines += [Line("    ").put(part, style) for part in parts]
    return lines


def help_lines(styles: Styles, keys: Sequence[Action], places: str, width: int) -> list[Line]:
    """The whole text: the ``keys`` that hold in ``places``, the others, colours and the panels."""
    lines: list[Line] = []
    for title, here in (("keys here", True), ("keys of other screens", False)):
        lines.append(Line(title, styles.command))
        for key in keys:
            if key.keys and key.holds(places) is here:
                lines += wrapped(key.show, styles.command, f"{key.name}: {key.about}", styles.base, width)
        lines.append(Line())
    lines += [
        Line("colours", styles.command),
        Line("warm", styles.client).to(NAMES).put("what clients feel", styles.base),
        Line("cool", styles.server).to(NAMES).put("what servers do, marked SERVER", styles.base),
        Line("white", styles.command).to(NAMES).put("what you command", styles.base),
        Line("--", styles.stale).to(NAMES).put("a figure that is missing; never drawn as zero", styles.base),
        Line(),
    ]
    for panel in PANELS.values():
        lines += panel_lines(panel, styles, width)
    return lines[:-1]


class HelpText(ScrollView, can_focus=True):
    """Lines that scroll; ``make`` gives them for a width."""

    ALLOW_SELECT = False

    def __init__(self, make: Callable[[int], list[Line]]) -> None:
        super().__init__()
        self._make = make
        self._lines: list[Line] = []

    def make_again(self) -> None:
        """Draws the lines of now."""
        width = self.scrollable_content_region.width
        before, self._lines = self._lines, self._make(width)
        if self.virtual_size.width == width and [line.runs for line in before] == [
            line.runs for line in self._lines
        ]:
            return  # nothing of it has changed
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        self.make_again()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        row = self.scroll_offset.y + y
        line = self._lines[row] if row < len(self._lines) else Line()
        return line.strip(width, shell_of(self).rich_styles.base)


class HelpScreen(Dialog[None]):
    """Keys, colours and all panels. Closes on esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "leave", show=False),
    ]

    def __init__(self, keys: Sequence[Action], places: str) -> None:
        super().__init__()
        self._keys = keys
        self._places = places

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "help · all keys"
            box.border_subtitle = "↑↓ scroll   esc closes"
            yield HelpText(self._lines)

    def _lines(self, width: int) -> list[Line]:
        return help_lines(shell_of(self).rich_styles, self._keys, self._places, width)

    def on_mount(self) -> None:
        self.query_one(HelpText).focus()

    def action_leave(self) -> None:
        self.dismiss(None)


class PanelHelpScreen(Dialog[str]):
    """The figures of one panel, in a box beside it. Returns what to do next: nothing, ``next`` (panel) or
    ``all`` (keys)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave('')", show=False),
        Binding("question_mark,f1", "leave('all')", show=False),
        Binding("tab", "leave('next')", show=False, priority=True),
        Binding("up,k", "move(-1)", show=False, priority=True),
        Binding("down,j", "move(1)", show=False, priority=True),
    ]

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel
        self._chosen = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = f"help · {PANELS[self._panel.TOPIC].title}"
            box.border_subtitle = "↑↓ figures  tab next panel  ? all keys  esc"
            yield HelpText(self._lines)

    def _lines(self, width: int) -> list[Line]:
        topic, styles = self._panel.TOPIC, shell_of(self).rich_styles
        return figure_lines(topic, self._chosen, self._panel.snapshot, styles, width)

    def on_mount(self) -> None:
        self.place()
        self.query_one(HelpText).focus()
        self.set_interval(0.5, self.query_one(HelpText).make_again)

    def on_resize(self) -> None:
        self.place()

    def place(self) -> None:
        """Puts the box beside the panel, or under it on a narrow screen, where there is room."""
        region, size, box = self._panel.region, self.app.size, self.query_one("#box")
        width = min(BOX_WIDTH, size.width)
        height = min(len(self._lines(width - 4)) + 2, size.height)
        beside = size.width >= BESIDE and region.width + width <= size.width
        if beside:
            x = region.right if region.right + width <= size.width else max(0, region.x - width)
            y = min(region.y, size.height - height)
        else:
            x = min(region.x, size.width - width)
            under, over = size.height - region.bottom, region.y
            y = region.bottom if under >= over else over - height
            height = min(height, max(MIN_HEIGHT, under, over))
        box.styles.width, box.styles.height = width, height
        box.styles.offset = (x, max(0, min(y, size.height - height)))

    def action_move(self, step: int) -> None:
        self._chosen = max(0, min(len(PANELS[self._panel.TOPIC].figures) - 1, self._chosen + step))
        text = self.query_one(HelpText)
        text.make_again()
        self.place()
        text.scroll_to(y=max(0, self._chosen - 2), animate=False)

    def action_leave(self, then: str) -> None:
        self.dismiss(then)
