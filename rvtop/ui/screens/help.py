"""Keys, and what each figure means: the panel in focus first."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from rvtop.ui.draw import Line
from rvtop.ui.help_text import PANELS, PanelHelp
from rvtop.ui.keys import Key
from rvtop.ui.screens.dialog import Dialog
from rvtop.ui.shell import shell_of
from rvtop.ui.theme import Styles

NAMES = 16  # the column of names and keys
LEAST_TEXT = 20  # cells beside it


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


def help_lines(styles: Styles, topic: str | None, keys: Sequence[Key], width: int) -> list[Line]:
    """The whole text: the panel of ``topic`` first, then ``keys``, colours and the other panels."""
    lines = panel_lines(PANELS[topic], styles, width) if topic in PANELS else []
    lines.append(Line("keys", styles.command))
    for key in keys:
        lines += wrapped(key.show, styles.command, key.about, styles.base, width)
    lines += [
        Line(),
        Line("colours", styles.command),
        Line("warm", styles.client).to(NAMES).put("what clients feel", styles.base),
        Line("cool", styles.server).to(NAMES).put("what servers do, marked SERVER", styles.base),
        Line("white", styles.command).to(NAMES).put("what you command", styles.base),
        Line("--", styles.stale).to(NAMES).put("a figure that is missing; never drawn as zero", styles.base),
        Line(),
    ]
    for name, panel in PANELS.items():
        if name != topic:
            lines += panel_lines(panel, styles, width)
    return lines[:-1]


class HelpText(ScrollView, can_focus=True):
    """The text as lines that scroll."""

    ALLOW_SELECT = False

    def __init__(self, topic: str | None, keys: Sequence[Key]) -> None:
        super().__init__()
        self._topic, self._keys = topic, keys
        self._lines: list[Line] = []

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width
        self._lines = help_lines(shell_of(self).rich_styles, self._topic, self._keys, width)
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        row = self.scroll_offset.y + y
        line = self._lines[row] if row < len(self._lines) else Line()
        return line.strip(width, shell_of(self).rich_styles.base)


class HelpScreen(Dialog[None]):
    """Closes on esc; the panel of ``topic`` (a key of help_text.PANELS) comes first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "leave", show=False),
    ]

    def __init__(self, topic: str | None, keys: Sequence[Key]) -> None:
        super().__init__()
        self._topic, self._keys = topic, keys

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "help"
            box.border_subtitle = "↑↓ scroll   esc closes"
            yield HelpText(self._topic, self._keys)

    def on_mount(self) -> None:
        self.query_one(HelpText).focus()

    def action_leave(self) -> None:
        self.dismiss(None)
