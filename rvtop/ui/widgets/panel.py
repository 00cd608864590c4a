"""A panel: rows drawn by the Line API, repainted one by one and only where something changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar, cast

from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.chart_view import ChartView
from rvtop.ui.draw import Line, clickable
from rvtop.ui.shell import shell_of
from rvtop.ui.theme import Styles

T = TypeVar("T")
#: What stands in a legend for the sign of a line that is hidden.
_HIDDEN = str.maketrans(dict.fromkeys("█▒▓░●", "·"))
MARGINS = 2  # blank cells left and right of a panel's body, together


class Panel(Widget, can_focus=True):
    """Draws a snapshot in whatever size the layout gives it.

    One row high: ``one_line``. From two rows on: a rule with the ``heading``, and ``rows`` below it, with
    no sides and no floor. Drawing is a function of the snapshot and the size, so a resize needs no new
    snapshot.
    """

    DEFAULT_CSS = """
    Panel { width: 1fr; height: 1fr; background: $rv-background; }
    """
    ALLOW_SELECT = False
    TOPIC: ClassVar[str] = ""  # the panel's key in help_text.PANELS
    NAME: ClassVar[str] = ""  # as layout.FOLDS has it, where that is not the topic
    PLACE: ClassVar[str] = "left"  # one of layout.PLACES
    PLACE_WHERE_WIDE: ClassVar[str] = ""  # the same where there are four columns, if it is another
    GOOD: ClassVar[int] = 1000  # rows that it gets before another panel is folded for it, if it wants them
    CHART: ClassVar[bool] = False  # takes rows that no panel asks for
    LEGEND: ClassVar[tuple[str, ...]] = ()  # entries of its legend whose lines can be hidden

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.view = ChartView()  # the screen's, where it has one
        self._painted: list[Line] = []
        self._strips: list[Strip] = []
        self._stale: set[int] = set()  # rows that were drawn and not yet made into strips
        self._painted_for = Size(0, 0)
        self._placed = True
        self._told: tuple[object, ...] | None = None  # what `draws` said of what stands there
        self._kept: dict[str, tuple[tuple[object, ...], object]] = {}

    # -- what a panel implements ---------------------------------------------------------------

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        """What stands in the rule, left and right, in ``width`` cells together."""
        return Line(), Line()

    def footing(self, s: Snapshot, width: int) -> Line:
        """What else stands in the rule, before what is at its right, where there is room."""
        return Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        """The content: at most ``height`` lines of ``width`` cells."""
        raise NotImplementedError

    def one_line(self, s: Snapshot, width: int) -> Line:
        """All that fits into one row."""
        raise NotImplementedError

    def wants(self, s: Snapshot) -> bool:
        """Whether there is anything to draw; without, the live screen has no such panel."""
        return True

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        """The least and the best number of rows, the rule among them, where the panel is not one line."""
        return 1, 1

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        """All that it shows of ``s``, and of what it keeps beside: it is drawn anew only where that, its size
        or the screen's view differs from before. None: with each snapshot. It must name everything:
        ``tests/ui/test_ui_draws.py`` tries."""
        return None

    def quiet(self, s: Snapshot) -> bool:
        """Whether it has nothing to say: after a while the live screen folds it to its one line."""
        return False

    def once(self, key: tuple[object, ...], make: Callable[[], T], part: str = "") -> T:
        """``make()``, kept as long as ``key`` stays the same: a chart of one point a second need not be
        made ten times for each. ``part``: which of several things that the panel keeps."""
        kept = self._kept.get(part)
        if kept is None or kept[0] != key:
            kept = self._kept[part] = (key, make())
        return cast("T", kept[1])

    def hides(self, entry: str) -> bool:
        """Whether the line of that entry of its legend is hidden."""
        return (self.name_in_layout, entry) in self.view.hidden

    def entry(self, name: str, line: Line) -> Line:
        """``line`` as the legend's entry ``name``: a click hides its line, and shows it again. Of one that is
        hidden the entry is faint, and its sign a dot."""
        styles, action = self.rich_styles, f"screen.hide_line('{self.name_in_layout}', '{name}')"
        hidden, made = self.hides(name), Line()
        for text, style in line.runs:
            if hidden:
                text, style = text.translate(_HIDDEN), styles.faint
            made.put(text, clickable(style or styles.base, action))
        return made

    def clicks(self, style: Style, name: str) -> Style:
        """``style`` of what does the action ``name`` of the table of keys when it is clicked, where that
        holds on this screen."""
        places = getattr(self.screen, "PLACES", "")

        def make() -> Style:
            found = next((a for a in shell_of(self).actions if a.name == name and a.holds(places)), None)
            if found is None:
                return style
            return clickable(style, found.action if "." in found.action else f"screen.{found.action}")

        return self.once((style, places), make, f"click {name}")

    def observe(self, s: Snapshot) -> None:
        """Takes in a new snapshot before it is drawn, once (scales that follow the data)."""

    # -- what the screen calls ---------------------------------------------------------------

    @property
    def name_in_layout(self) -> str:
        """What the layout knows the panel by."""
        return self.NAME or self.TOPIC

    @property
    def placed(self) -> bool:
        """Whether the screen has room for it; without, nothing is computed."""
        return self._placed

    @placed.setter
    def placed(self, placed: bool) -> None:
        if placed and not self._placed and self.snapshot is not None:
            self.observe(self.snapshot)
        self._placed = placed

    def allow_focus(self) -> bool:
        return super().allow_focus() and self._placed

    @property
    def rich_styles(self) -> Styles:
        """The Rich styles to draw with; Textual's own ``styles`` are the widget's CSS."""
        return shell_of(self).rich_styles

    @property
    def edge(self) -> Style:
        """The rule's style."""
        return self.rich_styles.frame_focus if self.has_focus else self.rich_styles.frame

    @property
    def flat(self) -> str:
        """What the rule is drawn with."""
        return "━" if self.has_focus else "─"

    def show(self, s: Snapshot) -> None:
        """Draws ``s``."""
        self.snapshot = s
        if not self._placed:
            return
        self.observe(s)
        told = self.draws(s)
        drawn = None if told is None else (*told, *self.view.shown)
        if drawn is None or drawn != self._told or self._painted_for != self.size:
            self.repaint()
        self._told = drawn

    def show_past(self, s: Snapshot) -> None:
        """Draws an earlier ``s`` on the scales of now."""
        self.snapshot, self._told = s, None
        if self._placed:
            self.repaint()

    def repaint(self) -> None:
        """Draws again, and hands Textual the rows that differ."""
        size = self.size
        if not self.is_mounted or not self._placed or not size.area:
            return
        same_size = self._painted_for == size
        changed = self._paint(size)
        if not same_size:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))

    def forget(self) -> None:
        """Drops what is kept of the last picture, so that the next one is drawn anew."""
        self._painted_for, self._told = Size(0, 0), None
        self._kept.clear()

    def plain_text(self) -> list[str]:
        """The picture as lines of text, without the blanks at their ends."""
        return [line.text.rstrip() for line in self._lines(*self.size)]

    async def on_click(self, event: events.Click) -> None:
        """Does what is drawn there to be clicked."""
        line = self._painted[event.y] if event.y < len(self._painted) else None
        action = line.action_at(event.x) if line is not None else None
        if action is not None:
            await self.run_action(action)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.repaint()

    # -- Textual -----------------------------------------------------------------------------

    @property
    def size(self) -> Size:
        """All of it is content: a panel has no border, no padding and no scroll bar."""
        return self.outer_size

    def render_line(self, y: int) -> Strip:
        return self._rendered()[y] if 0 <= y < self.size.height else Strip.blank(self.size.width)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Straight from the rows: what Textual puts around a widget's content, a panel does not have."""
        strips = self._rendered()[crop.y : crop.bottom]
        x1, x2 = crop.column_span
        whole = (x1, x2) == (0, self.size.width)
        return strips if whole else [strip.crop(x1, x2) for strip in strips]

    def _rendered(self) -> list[Strip]:
        """All rows as they go to the terminal; only those that changed are made."""
        size = self.size
        if self._painted_for != size:
            self._paint(size)
        if self._stale:
            background, filters = self.background_colors[1], self.get_line_filters()
            behind, base = Style(bgcolor=background.rich_color), self.rich_styles.base
            for y in self._stale:
                segments = self._painted[y].segments(size.width, base, behind)
                for line_filter in filters:
                    segments = line_filter.apply(segments, background)
                self._strips[y] = Strip(segments, size.width)
            self._stale.clear()
        return self._strips

    def _paint(self, size: Size) -> list[int]:
        """Draws all rows; returns those that differ from what was drawn before."""
        width, height = size
        lines = self._lines(width, height)[:height]
        lines += [Line() for _ in range(height - len(lines))]
        if self._painted_for == size:
            changed = [y for y, old in enumerate(self._painted) if old.runs != lines[y].runs]
        else:
            changed = list(range(height))
            self._stale.clear()
            self._strips = [Strip.blank(width)] * height
        self._stale.update(changed)
        self._painted, self._painted_for = lines, size
        return changed

    def _lines(self, width: int, height: int) -> list[Line]:
        if height < 2:
            if self.snapshot is None:
                return []
            line = Line().join(self.one_line(self.snapshot, width))
            return [line.led_by("▸", self.rich_styles.command) if self.has_focus else line]
        if self.snapshot is None:
            return [self.rule(Line(), Line(), Line(), width)]
        inner = width - MARGINS
        left, right = self.heading(self.snapshot, inner)
        rule = self.rule(left, right, self.footing(self.snapshot, inner), width)
        content = self.rows(self.snapshot, inner, height - 1)
        return [rule, *(line.cut(inner).indented() for line in content)]

    def rule(self, left: Line, right: Line, more: Line, width: int) -> Line:
        """The panel's upper edge: faint, or heavy and bright when it has the focus. Where they do not fit,
        ``more`` is left out, then ``right``."""
        flat, edge = self.flat, self.edge
        made = Line(flat * 2, edge)
        if left.width:
            made.put(" ").join(left.cut(max(0, width - 4))).put(" ")
        between = Line(" " + flat * 2 + " ", edge) if right.width and more.width else Line()
        if made.width + more.width + between.width + right.width + 4 <= width:
            right = Line().join(more).join(between).join(right)
        for tail in (2, 0):  # cells of the rule behind what is at the right
            spare = width - made.width - right.width - 2 - tail
            if right.width and spare >= 0:
                made.put(flat * spare, edge).put(" ").join(right).put(" ")
                break
        return made.put(flat * (width - made.width), edge).cut(width)
