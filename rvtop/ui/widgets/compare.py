"""The panels of the Compare screen: the figures of both sides, and their TTFT over each other."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.contract.snapshot import Snapshot
from rvtop.results.compare import ALL, NO_INTERVAL, SPAN, Comparison, short_names
from rvtop.stats.distribution import EMPTY
from rvtop.ui.axis import LogAxis
from rvtop.ui.compare_lines import note_lines, refusal_lines, shown_rows, table_lines
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, sig3
from rvtop.ui.histogram_cells import Layers
from rvtop.ui.key_names import shown_key
from rvtop.ui.shell import shell_of
from rvtop.ui.sides import Sides
from rvtop.ui.widgets.panel import MARGINS, Panel
from rvtop.ui.widgets.ttft import extent

LEAST_CHART = 7
#: More rows, and more columns, make its shape no clearer.
MOST_CHART = 32


@dataclass
class Compared:
    """What both panels show: the two sides as they stand by now."""

    sides: Sides
    found: Comparison | None = None
    reading: str = ""  # the folder that is being read

    @property
    def refused(self) -> bool:
        """Whether the two did different work, and the user has not set that aside."""
        return self.found is not None and bool(self.found.refused) and not self.sides.forced


class ComparePanel(Panel):
    DEFAULT_CSS = """
    ComparePanel { height: 1fr; min-height: 3; }
    """
    TOPIC = "compare"

    def __init__(self, compared: Compared) -> None:
        super().__init__()
        self._compared = compared

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, found = self.rich_styles, self._compared.found
        left, right = Line("compare", styles.client_bold), Line()
        if found is None:
            return left, right
        if not self._compared.refused:
            part = self._compared.sides.part
            span = part if part != ALL else found.a.work.get(SPAN, ALL)
            right.put(span if span.startswith(("all", "a ", "the")) else f"phase {span}", styles.quiet)
            how = "paired" if found.paired else "unpaired"
            told = f"{found.level:g} % intervals, {how}" if found.has_intervals else NO_INTERVAL
            right.put(f"   {told}", styles.quiet)
        room = max(8, (width - left.width - right.width - 24) // 2)
        names, styled = short_names(found.a, found.b), (styles.ghost, styles.client_bold)
        for letter, name, side, style in zip("AB", names, (found.a, found.b), styled, strict=True):
            left.put(f"   {letter} ", styles.quiet).put(clip(name, room), style)
            where = f" {side.where}" if len(name) + len(side.where) < room and name == side.label else ""
            where += " (reference)" if letter == "A" and width >= 100 else ""
            left.put(where, styles.quiet)
        return left, right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, compared = self.rich_styles, self._compared
        found = compared.found
        if compared.reading:
            return [Line(clip(f"reading {compared.reading} …", width), styles.quiet)]
        if found is None:
            return self._empty(width, height)
        if compared.refused:
            again = f"{self._key('compare: all the same')} compares them all the same"
            others = f"{self._key('compare: choose A')} {self._key('compare: choose B')} choose others"
            return refusal_lines(found, f"{again}   {others}", styles, width)[:height]
        notes = self._notes(found, width)
        sides, room = compared.sides, height - min(len(notes), height // 3)
        table = table_lines(found, sides.part, sides.row, styles, width, room)
        return [*table, *notes][:height]

    def wanted(self, s: Snapshot, width: int) -> int:
        """Rows that it fills, its rule among them."""
        found = self._compared.found
        if found is None or self._compared.refused:
            return 1000
        notes = self._notes(found, width - MARGINS)
        return 2 + len(shown_rows(found, self._compared.sides.part, 1000)) + len(notes)

    def _notes(self, found: Comparison, width: int) -> list[Line]:
        notes = [found.refusal] if found.refused else []
        return note_lines([*notes, *found.notes], self.rich_styles, width)

    def _key(self, name: str) -> str:
        action = next(one for one in shell_of(self).actions if one.name == name)
        return shown_key(action.keys[0]) if action.keys else "palette:"

    def _empty(self, width: int, height: int) -> list[Line]:
        text = f"Choose A and B: {self._key('stored runs')} for stored runs, "
        text += f"{self._key('live pairs: second server')} for a second server"
        before = [Line()] * max(0, (height - 1) // 2)
        middle = Line(" " * max(0, (width - len(text)) // 2))
        return [*before, middle.put(clip(text, width), self.rich_styles.base)]

    def one_line(self, s: Snapshot, width: int) -> Line:
        left, right = self.heading(s, width)
        return Line(" ").join(left).put("  ").join(right).cut(width)


class OverlayPanel(Panel):
    """B's TTFT, and A's as an outline over it."""

    DEFAULT_CSS = """
    OverlayPanel { height: 1fr; max-width: 120; }
    """
    TOPIC = "compare"

    def __init__(self, compared: Compared) -> None:
        super().__init__()
        self._compared = compared
        self._axis = LogAxis()
        self._of: tuple[str, str] | None = None

    def observe(self, s: Snapshot) -> None:
        found = self._compared.found
        if found is None:
            return
        of = (found.a.where, found.b.where)
        if of != self._of:
            self._of = of
            self._axis.refit()
        spans = [extent(side.ttft) for side in (found.a, found.b) if side.ttft.count]
        if spans:
            self._axis.include(min(a for a, _ in spans), max(b for _, b in spans), s.t_s)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, found = self.rich_styles, self._compared.found
        left = Line("TTFT", styles.client_bold)
        if found is None or self._compared.refused:
            return left, Line()
        room = max(6, (width - 40) // 2)
        a, b = short_names(found.a, found.b)
        left.put("  B ", styles.quiet).put("█ ", styles.client).put(clip(b, room), styles.base)
        left.put("  A ", styles.quiet).put("╌ ", styles.ghost).put(clip(a, room), styles.base)
        whole = "of all phases" if self._compared.sides.part != ALL else ""
        return left, Line(whole, styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        found = self._compared.found
        if found is None or self._compared.refused or height < 3:
            return []
        a, b = found.a.ttft, found.b.ttft
        if not a.count and not b.count:
            return [Line("no TTFT is known of the two", self.rich_styles.quiet)]
        plot = height - 2
        layers = Layers.of(b, EMPTY, a if a.count else None, self._axis, width, plot)
        cells = layers.cells(layers.highest, plot, self.rich_styles)
        return [*cells.lines(), self._rule(width), self._labels(width)]

    def _rule(self, width: int) -> Line:
        styles, found = self.rich_styles, self._compared.found
        line = Line()
        marks = {}
        for name, side in (("a", found.a), ("b", found.b)) if found is not None else ():
            if side.ttft.count:
                at = self._axis.column(side.ttft.percentile(50) / 1e6, width)
                marks[min(max(0, at), width - 1)] = styles.ghost if name == "a" else styles.client_bold
        ticks = {column for column, _ in self._axis.ticks(width)}
        for x in range(width):
            if x in marks:
                line.put("▲", marks[x])
            else:
                line.put("┬" if x in ticks else "─", styles.faint if x in ticks else styles.frame)
        return line

    def _labels(self, width: int) -> Line:
        line = Line()
        for column, label in self._axis.ticks(width):
            line.to(column).put(label, self.rich_styles.quiet)
        return line

    def one_line(self, s: Snapshot, width: int) -> Line:
        found = self._compared.found
        line = Line(" TTFT p50", self.rich_styles.quiet)
        if found is not None and not self._compared.refused:
            line.put(f"  A {sig3(found.a.figures.get('ttft_p50'))}", self.rich_styles.ghost)
            line.put(f"  B {sig3(found.b.figures.get('ttft_p50'))} ms", self.rich_styles.client)
        return line.cut(width)
