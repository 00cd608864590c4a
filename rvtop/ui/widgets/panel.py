"""A panel: rows drawn by the Line API, repainted one by one and only where something changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar, cast

from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.chart_view import ChartView
from rvtop.ui.draw import Line, Run
from rvtop.ui.shell import shell_of
from rvtop.ui.theme import Styles

T = TypeVar("T")
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

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.view = ChartView()  # the screen's, where it has one
        self._painted: list[tuple[Run, ...]] = []
        self._strips: list[Strip | None] = []
        self._painted_for = Size(0, 0)
        self._placed = True
        self._kept: tuple[tuple[object, ...], object] | None = None

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

    def quiet(self, s: Snapshot) -> bool:
        """Whether it has nothing to say: after a while the live screen folds it to its one line."""
        return False

    def once(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """``make()``, kept as long as ``key`` stays the same: a chart of one point a second need not be
        made ten times for each."""
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, make())
        return cast("T", self._kept[1])

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
        if self._placed:
            self.observe(s)
            self.repaint()

    def show_past(self, s: Snapshot) -> None:
        """Draws an earlier ``s`` on the scales of now."""
        self.snapshot = s
        if self._placed:
            self.repaint()

    def repaint(self) -> None:
        """Draws again, and hands Textual the rows that differ."""
        size = self.size
        if not self.is_mounted or not self._placed or not size.area:
            return
        before, same_size = self._painted, self._painted_for == size
        self._paint(size)
        if not same_size:
            self.refresh()
            return
        changed = [
            y for y, strip in enumerate(self._strips) if strip is None or before[y] != self._painted[y]
        ]
        if changed:
            self.refresh(*(Region(0, y, size.width, 1) for y in changed))

    def forget(self) -> None:
        """Drops what is kept of the last picture, so that the next one is drawn anew."""
        self._painted_for, self._kept = Size(0, 0), None

    def plain_text(self) -> list[str]:
        """The picture as lines of text, without the blanks at their ends."""
        return [line.text.rstrip() for line in self._lines(*self.size)]

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.repaint()

    # -- Textual -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        size = self.size
        if self._painted_for != size:
            self._paint(size)
        if y >= len(self._painted):
            return Strip.blank(size.width, self.rich_styles.base)
        strip = self._strips[y]
        if strip is None:
            line = Line()
            line.runs = list(self._painted[y])
            line.width = sum(Line(text).width for text, _ in line.runs)
            strip = self._strips[y] = line.strip(size.width, self.rich_styles.base)
        return strip

    def _paint(self, size: Size) -> None:
        width, height = size
        lines = self._lines(width, height)
        lines = lines[:height] + [Line()] * (height - len(lines))
        painted = [tuple(line.runs) for line in lines]
        if self._painted_for == size:
            kept = zip(self._painted, painted, self._strips, strict=True)
            self._strips = [strip if old == new else None for old, new, strip in kept]
        else:
            self._strips = [None] * height
        self._painted, self._painted_for = painted, size

    def _lines(self, width: int, height: int) -> list[Line]:
        if height < 2:
            return [self.one_line(self.snapshot, width)] if self.snapshot else []
        if self.snapshot is None:
            return [self.rule(Line(), Line(), Line(), width)]
        inner = width - MARGINS
        left, right = self.heading(self.snapshot, inner)
        rule = self.rule(left, right, self.footing(self.snapshot, inner), width)
        content = self.rows(self.snapshot, inner, height - 1)
        return [rule, *(Line(" ").join(line.cut(inner)) for line in content)]

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
