"""Keys with what they do, as the footer and the load's rule say them; a click on one does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.widget import Widget

from rvtop.ui.action import Action
from rvtop.ui.draw import Line
from rvtop.ui.keymap import footer_key
from rvtop.ui.theme import Styles

GAP = "   "
#: The places in the footer of those that the load's rule shows where it is drawn.
LOAD_PLACES = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Hints:
    """A line of keys. ``spans``: the first and the last column of each, and its Textual action."""

    line: Line
    spans: tuple[tuple[int, int, str], ...]

    async def click(self, widget: Widget, x: int) -> None:
        """Does what stands in column ``x``; nothing where two keys share the place."""
        for begin, end, action in self.spans:
            if begin <= x < end:
                await widget.screen.run_action(action)


def hints(styles: Styles, shown: Iterable[tuple[Action, str]], actions: Sequence[Action]) -> Hints:
    """``shown`` are actions with what to say of each."""
    line, spans = Line(), []
    for action, label in shown:
        line.put(GAP if line.width else "")
        begin = line.width
        line.put(footer_key(action, actions), styles.command).put(f" {label}", styles.quiet)
        if not action.pair or action.pair.startswith("window"):
            spans.append((begin, line.width, action.action))
    return Hints(line, tuple(spans))


def load_hints(styles: Styles, actions: Sequence[Action], paused: bool) -> Hints:
    """The keys that steer the load."""
    shown = [
        action for action in actions if action.where == "*" and action.foot in LOAD_PLACES and action.keys
    ]
    shown.sort(key=lambda action: action.foot)
    labels = ["send again" if action.action == "pause" and paused else action.label for action in shown]
    return hints(styles, zip(shown, labels, strict=True), actions)
