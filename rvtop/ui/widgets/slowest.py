"""The slowest requests of the last minute, in a column of the live screen."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.format import count, sig3
from rvtop.ui.layout import FOUR_COLUMNS
from rvtop.ui.request_lines import head_line, ordered, row_line
from rvtop.ui.widgets.panel import MARGINS, Panel
from rvtop.ui.widgets.requests import NONE_YET, PartsPanel

#: Rows of requests where they stand below other panels, and in a column of their own.
FEW, MANY = 5, 40


class LivePartsPanel(PartsPanel):
    """Where the TTFT went, in a column of the live screen."""

    NAME = "parts"
    PLACE = "third"

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        shown = sum(each.name != "mean" for each in s.requests.typical)
        estimate = bool(not s.requests.told and self._estimates(s))
        return 3, max(3, 2 + shown + estimate)


class SlowestPanel(Panel):
    TOPIC = "requests"
    NAME = "slowest"
    PLACE = "third"
    PLACE_WHERE_WIDE = "fourth"
    GOOD = 22

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        most = MANY if self.place_is_wide else FEW
        return 4, 2 + min(most, max(1, len(s.requests.slowest)))

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return (s.requests,)

    @property
    def place_is_wide(self) -> bool:
        """Whether requests have a column of their own."""
        return self.app.size.width >= FOUR_COLUMNS

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        left = Line("slowest", self.rich_styles.client_bold).put(" · last minute", self.rich_styles.quiet)
        failed = len(s.requests.errors)
        right = Line(f"✗ {count(failed)} failed", self.rich_styles.trouble) if failed else Line()
        return left, right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, slowest = self.rich_styles, ordered(s.requests.slowest, "TTFT")
        if not slowest:
            return [Line(NONE_YET, styles.quiet).cut(width)]
        scale = slowest[0].ttft_ms or 0.0
        lines = [row_line(styles, row, width, scale, chosen=False) for row in slowest[: height - 1]]
        return [head_line(styles, width, scale), *lines]

    def one_line(self, s: Snapshot, width: int) -> Line:
        slowest = ordered(s.requests.slowest, "TTFT")[:1]
        text = f" slowest {slowest[0].id}: {sig3(slowest[0].ttft_ms)} ms" if slowest else f" {NONE_YET}"
        return Line(text, self.rich_styles.quiet).cut(width - MARGINS)
