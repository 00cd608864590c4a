"""A panel: rows drawn by the Line API, repainted one by one and only where something changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar, cast

from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.draw import Line, Run
from rvtop.ui.shell import shell_of
from rvtop.ui.theme import Styles

T = TypeVar("T")


class Panel(Widget, can_focus=True):
    """Draws a snapshot in whatever size the layout gives it.

    One row high: ``one_line``, with no frame. From three rows on: ``heading`` in a frame around
    ``rows``. Drawing is a function of the snapshot and the size, so a resize needs no new snapshot.
    """

    DEFAULT_CSS = """
    Panel { width: 1fr; height: 1fr; background: $rv-background; }
    """
    ALLOW_SELECT = False
    TOPIC: ClassVar[str] = ""  # the panel's key in help_text.PANELS

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self._painted: list[tuple[Run, ...]] = []
        self._strips: list[Strip | None] = []
        self._painted_for = Size(0, 0)
        self._wanted: int | None = None
        self._kept: tuple[tuple[object, ...], object] | None = None

    # -- what a panel implements ---------------------------------------------------------------

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        """What stands in the frame's upper edge, left and right, in ``width`` cells together."""
        return Line(), Line()

    def footing(self, s: Snapshot, width: int) -> Line:
        """What stands in the frame's lower edge, at the right."""
        return Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        """The content: at most ``height`` lines of ``width`` cells."""
        raise NotImplementedError

    def one_line(self, s: Snapshot, width: int) -> Line:
        """All that fits into one row."""
        raise NotImplementedError

    def wanted(self, s: Snapshot) -> int:
        """How many content rows the panel would like, where the layout asks (``height: auto``)."""
        return 1

    def has_data(self, s: Snapshot) -> bool:
        """Whether there is anything to draw. The class ``told`` follows it, for panels whose CSS hides them
        without."""
        return True

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
    def rich_styles(self) -> Styles:
        """The Rich styles to draw with; Textual's own ``styles`` are the widget's CSS."""
        return shell_of(self).rich_styles

    @property
    def edge(self) -> Style:
        """The frame's style."""
        return self.rich_styles.frame_focus if self.has_focus else self.rich_styles.frame

    def show(self, s: Snapshot) -> None:
        """Draws ``s``."""
        self.snapshot = s
        self.observe(s)
        self.set_class(self.has_data(s), "told")
        wanted = self.wanted(s)
        if wanted != self._wanted:
            self._wanted = wanted
            self.refresh(layout=self.styles.is_auto_height)
        self.repaint()

    def repaint(self) -> None:
        """Draws again, and hands Textual the rows that differ."""
        size = self.size
        if not self.is_mounted or not size.area:
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

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.repaint()

    # -- Textual -----------------------------------------------------------------------------

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return (self.wanted(self.snapshot) if self.snapshot is not None else 1) + 2

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
        if height < 3:
            return [self.one_line(self.snapshot, width)] if self.snapshot else []
        inner, room = width - 4, height - 2
        if self.snapshot is None:
            return self.framed([], Line(), Line(), Line(), width, height)
        left, right = self.heading(self.snapshot, inner)
        content = self.rows(self.snapshot, inner, room)
        return self.framed(content, left, right, self.footing(self.snapshot, inner), width, height)

    def framed(
        self, content: list[Line], left: Line, right: Line, foot: Line, width: int, height: int
    ) -> list[Line]:
        """``content`` in a frame: round and faint, or heavy and bright when the panel has the focus."""
        a, b, c, d, flat, upright = "┏┓┗┛━┃" if self.has_focus else "╭╮╰╯─│"
        edge = self.edge
        if width < 4:  # no room for a frame and something in it
            return [line.cut(width) for line in (left, *content)]
        left, content = left.cut(width - 5), [line.cut(width - 4) for line in content]
        top = Line(a + flat, edge)
        if left.width:
            top.put(" ").join(left).put(" ")
        spare = width - 2 - top.width - (right.width + 2 if right.width else 0)
        top.put(flat * max(0, spare), edge)
        if right.width and spare >= 0:
            top.put(" ").join(right).put(" ")
        top.put(flat * (width - 1 - top.width), edge).put(b, edge)
        made = [top]
        for i in range(height - 2):
            line = Line(upright, edge).put(" ")
            if i < len(content):
                line.join(content[i])
            made.append(line.to(width - 1).put(upright, edge))
        low = Line(c, edge)
        spare = width - 3 - (foot.width + 2 if foot.width else 0)
        if foot.width and spare >= 1:
            low.put(flat * spare, edge).put(" ").join(foot).put(" ")
        made.append(low.put(flat * (width - 1 - low.width), edge).put(d, edge))
        return made
