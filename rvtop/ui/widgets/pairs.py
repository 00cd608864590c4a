"""Live pairs: the panel of the Compare screen, and the row of the live screen that says what they show."""

from __future__ import annotations

from rvtop.contract.pairs import NOT_YET, Pairs, pair_words
from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, count
from rvtop.ui.pair_lines import mirrored, point_lines, table_lines, wrapped_notes
from rvtop.ui.sides import PAIR_B
from rvtop.ui.widgets.compare import Compared
from rvtop.ui.widgets.panel import MARGINS, Panel

_STAGES = {"warm": "warm-up", "same": "A against A", "both": ""}


class PairsPanel(Panel):
    """The figures of live pairs, and how the interval of the first closed."""

    DEFAULT_CSS = """
    PairsPanel { height: 1fr; min-height: 3; }
    """
    TOPIC = "pairs"

    def __init__(self, compared: Compared) -> None:
        super().__init__()
        self._compared = compared

    def pairs(self, s: Snapshot) -> Pairs | None:
        """The pairs as they are to be shown: with B as the reference where the two were swapped."""
        if s.pairs is None:
            return None
        return mirrored(s.pairs) if self._compared.sides.a == PAIR_B else s.pairs

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, pairs = self.rich_styles, self.pairs(s)
        left, right = Line("compare", styles.client_bold), Line()
        if pairs is None:
            return left, right
        live = "paired, live" if s.state not in OVER else "paired"
        stage = _STAGES[pairs.stage] if s.state not in OVER else ""
        number = pairs.same_count if pairs.stage == "same" and s.state not in OVER else pairs.count
        right.put(f"{stage}  " if stage else "", styles.attention)
        right.put(f"{count(number)} pairs  {live}", styles.quiet)
        room = max(8, (width - left.width - right.width - 16) // 2)
        for letter, name, style in (("A", pairs.a, styles.ghost), ("B", pairs.b, styles.client_bold)):
            left.put(f"   {letter} ", styles.quiet).put(clip(name, room), style)
        return left, right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, pairs = self.rich_styles, self.pairs(s)
        if pairs is None:
            return []
        table = table_lines(pairs, self._compared.sides.row, styles, width)
        told = wrapped_notes(pairs, styles, width)
        points = point_lines(pairs, styles, width, height - len(table) - len(told) - 2)
        if points:
            title = f"{pairs.rows[0].name}  B − A, as pairs came in   │ is 0"
            points = [Line(), Line(title, styles.quiet), *points]
        return [*table, *told, *points][:height]

    def wanted(self, s: Snapshot, width: int) -> int:
        """Rows that it fills, its rule among them."""
        pairs = self.pairs(s)
        if pairs is None:
            return 3
        told = wrapped_notes(pairs, self.rich_styles, width - MARGINS)
        points = len(pairs.points) + 2 if pairs.points else 0
        return 2 + len(pairs.rows) + len(told) + points

    def one_line(self, s: Snapshot, width: int) -> Line:
        pairs = self.pairs(s)
        return Line() if pairs is None else Line(clip(pair_words(pairs), width), self.rich_styles.base)


class PairsRow(Panel, can_focus=False):
    """One row: that the load goes to two servers, and what the pairs show."""

    NAME = "pairs"
    PLACE = "top"

    def wants(self, s: Snapshot) -> bool:
        return s.state not in OVER and s.pairs is not None

    def one_line(self, s: Snapshot, width: int) -> Line:
        pairs = s.pairs
        if pairs is None:
            return Line()
        styles = self.rich_styles
        line = Line("pairs", styles.client_bold).put("  figures here are of A and B together", styles.quiet)
        if pairs.stage != "warm":
            sure = pairs.stage == "both" and pairs.rows[0].word != NOT_YET
            words = Line("pairs  ", styles.client_bold)
            line = words.put(pair_words(pairs), styles.strong if sure else styles.base)
        return line.cut(width)
