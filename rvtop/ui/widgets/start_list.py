"""The list of the Start screen, with its cursor."""

from __future__ import annotations

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from rvtop.contract.start import ModelRow, Offer, StartFacts, UpRow
from rvtop.ui.shell import shell_of
from rvtop.ui.start_lines import Item, Picture, StartLines, facts_with, items_of


class StartList(Widget, can_focus=True):
    """Draws what the facts say; the row of the cursor stays in sight. It draws nothing of its own accord."""

    DEFAULT_CSS = """
    StartList { height: 1fr; background: $rv-background; }
    """
    ALLOW_SELECT = False

    class Pointed(Message):
        """Another row is under the cursor, or another one was ticked."""

    class Chosen(Message):
        """The row under the cursor was clicked a second time."""

    def __init__(self, facts: StartFacts) -> None:
        super().__init__()
        self.facts = self.all_facts = facts  # those that the filter leaves, and all
        self.filter = ""
        self.cursor = 0
        self.ticked: frozenset[str] = frozenset()
        self._asked: frozenset[str] | None = None  # what the user ticked
        self._moved = False
        self._top = 0
        self._picture = Picture()
        self.take(facts)

    @property
    def item(self) -> Item | None:
        """What is under the cursor."""
        items = items_of(self.facts)
        return items[self.cursor] if items else None

    def take(self, facts: StartFacts) -> None:
        """Shows newer facts. The cursor stays at what it pointed to; before it was moved, it stands at what
        is up, else at what can be started."""
        before = self.item
        self.all_facts = facts
        names = {model.name for model in facts.models}
        default = frozenset(model.name for model in facts.models if model.by_default)
        self.ticked = default if self._asked is None else self._asked & names or default
        self.facts = facts_with(facts, self.filter)
        items = items_of(self.facts)
        same = [i for i, item in enumerate(items) if before and _identity(item) == _identity(before)]
        if self._moved and same:
            self.cursor = same[0]
        elif not self._moved:
            first = [i for i, item in enumerate(items) if isinstance(item, UpRow | Offer) and not item.why]
            self.cursor = first[0] if first else 0
        self.cursor = max(0, min(self.cursor, len(items) - 1))
        self.refresh()

    def show_only(self, text: str) -> None:
        """Lists only the rows that hold ``text``; empty: all."""
        self.filter = text
        self.take(self.all_facts)

    def move(self, step: int) -> bool:
        """Moves the cursor; False where it stands at the end already."""
        there = self.cursor + step
        if not 0 <= there < len(items_of(self.facts)):
            return False
        self._go(there)
        return True

    def tick(self) -> None:
        """Ticks the model under the cursor, or takes its tick away; one stays ticked."""
        item = self.item
        if isinstance(item, ModelRow):
            self._asked = (self.ticked ^ {item.name}) or self.ticked
            self.ticked = self._asked
            self.refresh()
            self.post_message(self.Pointed())

    def _go(self, there: int) -> None:
        self.cursor, self._moved = there, True
        self.refresh()
        self.post_message(self.Pointed())

    # -- drawing -----------------------------------------------------------------------------

    def _draw(self) -> None:
        width, height = self.size
        cursor = self.cursor if self.has_focus else None
        styles = shell_of(self).rich_styles
        self._picture = StartLines(self.facts, styles, width, cursor, self.ticked).picture()
        places = self._picture.places
        at = places[self.cursor][0] if self.cursor < len(places) else 0
        # The row above the first item of a section is its rule: it is shown with it.
        last = max(0, len(self._picture.lines) - height)
        if at - 2 < self._top:
            self._top = max(0, at - 2)
        if at >= self._top + height:
            self._top = at - height + 1
        self._top = min(self._top, last)

    def render_lines(self, crop: Region) -> list[Strip]:
        self._draw()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        base = shell_of(self).rich_styles.base
        lines, y = self._picture.lines, y + self._top
        return lines[y].strip(self.size.width, base) if y < len(lines) else Strip.blank(self.size.width, base)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        y = event.y + self._top
        for number, (line, left, right) in enumerate(self._picture.places):
            if line == y and left <= event.x < right:
                again = number == self.cursor and event.chain > 1
                self._go(number)
                if again:
                    self.post_message(self.Chosen())


def _identity(item: Item) -> tuple[type, str]:
    return type(item), item.name
