"""One row for tokens that come in lumps: what is seen, the gaps between them as bars, and what ends it."""

from __future__ import annotations

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.stats.comb import Comb, knob, said
from rvtop.ui.draw import Line, area, eighths, fitting
from rvtop.ui.format import clip, milliseconds
from rvtop.ui.widgets.panel import Panel


class CombPanel(Panel, can_focus=False):
    NAME = "comb"
    PLACE = "top"

    def wants(self, s: Snapshot) -> bool:
        return s.state not in OVER and s.comb is not None

    def one_line(self, s: Snapshot, width: int) -> Line:
        if s.comb is None:
            return Line()
        styles = self.rich_styles
        seen, whose = said(s.comb)
        first = Line("▌comb", styles.attention)
        parts = [(1, Line("  ").put(clip(seen, max(0, width - first.width - 3)), styles.base))]
        parts.append((3, Line(" │ ", styles.faint).join(self._drawn(s.comb))))
        for rank, text in ((4, whose), (2, knob(s.comb, s.target.topology))):
            if text:
                parts.append((rank, Line(" │ ", styles.faint).put(text, styles.base)))
        return fitting([(0, first), *parts], width)

    def _drawn(self, comb: Comb) -> Line:
        """Bars from no gap to one of two periods; the first, which is most of them, is cut off."""
        styles = self.rich_styles
        (bars,) = area(eighths(comb.bars, max(comb.bars[1:], default=0.0), 1), 1, styles.client)
        return Line("0 ", styles.quiet).join(bars).put(f" {milliseconds(2 * comb.period_ms)}", styles.quiet)
