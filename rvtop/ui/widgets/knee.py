"""The same charts against the rate: where latency bends and tokens/s stop to grow, beside those over time."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.layout import TALL
from rvtop.ui.rate_span import STOOD_S, RateSpan
from rvtop.ui.widgets.inflight import InFlightPanel
from rvtop.ui.widgets.latency_time import LatencyTimePanel
from rvtop.ui.widgets.time_chart import TimeChart
from rvtop.ui.widgets.tokens import TokensPanel


class _AgainstTheRate(TimeChart):
    """Beside a chart over time, so it needs neither the window nor the figures of now."""

    NAMES_MARKS = False

    def by_rate(self) -> bool:
        return True

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if RateSpan.of(s.series, 1) is None:
            text = f"each rate that stood for {STOOD_S} s has its columns here"
            return [Line(text, self.rich_styles.quiet).cut(width)]
        return super().rows(s, width, height)

    def quiet(self, s: Snapshot) -> bool:
        return False


class KneePanel(_AgainstTheRate, LatencyTimePanel):
    NAME = "knee"
    PLACE = "third"

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        right = self.entry("p50", Line("p50 ", styles.quiet).put("█", styles.client)).put("  ", styles.quiet)
        right.join(self.entry("p99", Line("p99 ", styles.quiet).put("▒", styles.client)))
        left = Line("TTFT", styles.client_bold).join(self.window_label(s))
        return left, right.put(" ms", styles.quiet)


class KneeInFlightPanel(_AgainstTheRate, InFlightPanel):
    NAME = "knee_inflight"
    PLACE = "third"

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0 and self.app.size.height >= TALL

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        return Line("in flight", self.rich_styles.client_bold).join(self.window_label(s)), Line()


class KneeTokensPanel(_AgainstTheRate, TokensPanel):
    NAME = "knee_tokens"
    PLACE = "third"

    def wants(self, s: Snapshot) -> bool:
        return s.load.sent > 0

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        return Line("tokens/s", self.rich_styles.client_bold).join(self.window_label(s)), Line()
