"""One row of the one-token requests beside the load: what the load does to others."""

from __future__ import annotations

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import count, sig3
from rvtop.ui.widgets.panel import Panel


class ProbesPanel(Panel, can_focus=False):
    NAME = "probes"
    PLACE = "top"

    def wants(self, s: Snapshot) -> bool:
        return s.state not in OVER and s.probes is not None

    def one_line(self, s: Snapshot, width: int) -> Line:
        probes = s.probes
        if probes is None:
            return Line()
        styles, ttft = self.rich_styles, probes.ttft
        line = (
            Line("▌probes", styles.quiet).put(" TTFT p50 ", styles.quiet).put(sig3(ttft.p50), styles.client)
        )
        line.put("  p99 ", styles.quiet).put(sig3(ttft.p99), styles.client).put(" ms", styles.quiet)
        failed = sum(n for _, n in probes.errors)
        parts = [(0, line)]
        if failed:
            parts.append((1, Line(" │ ", styles.faint).put(f"{count(failed)} failed", styles.trouble)))
        sent = f"{probes.rate_rps:g} of one token a second beside the load, {count(probes.sent)} so far"
        parts.append((2, Line(" │ ", styles.faint).put(sent, styles.quiet)))
        return fitting(parts, width)
