"""One row while load is above what the server can answer: both slopes, and the two rates."""

from __future__ import annotations

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.stats.saturation import said
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import clip
from rvtop.ui.widgets.panel import Panel


class SaturationPanel(Panel, can_focus=False):
    NAME = "saturation"
    PLACE = "top"

    def wants(self, s: Snapshot) -> bool:
        return s.state not in OVER and s.saturation is not None

    def one_line(self, s: Snapshot, width: int) -> Line:
        if s.saturation is None:
            return Line()
        styles = self.rich_styles
        flight, ttft = said(s.saturation)
        first = Line("▌over saturation", styles.attention)
        seen = Line(" ").put(clip(flight, max(0, width - first.width - 1)), styles.base)
        return fitting([(0, first), (1, seen), (2, Line(" │ ", styles.faint).put(ttft, styles.base))], width)
