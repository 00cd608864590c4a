"""One line on what changed since the ghost, with the share of completed requests beside it."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import MISSING
from rvtop.ui.ghost import censored, changes, completion
from rvtop.ui.widgets.panel import Panel


def signed(share: float | None) -> str:
    """``+12 %``, ``−40 %``, ``0 %``; more than tenfold as ``×38``."""
    if share is None:
        return MISSING
    if share >= 9.995:
        return f"×{share + 1:.0f}"
    percent = round(100 * share)
    return f"{'+' if percent > 0 else '−' if percent < 0 else ''}{abs(percent)} %"


def completed(share: float | None) -> str:
    """A share of requests in percent, to a tenth where it is not all."""
    if share is None:
        return MISSING
    return "100 %" if share == 1 else f"{min(99.9, 100 * share):.1f} %"


class ChangePanel(Panel):
    TOPIC = "change"
    PLACE = "left"

    def wants(self, s: Snapshot) -> bool:
        return self.view.ghost is not None

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles, ghost = self.rich_styles, self.view.ghost
        if ghost is None:
            return Line()
        before = ghost.snapshot
        parts = [(0, Line(" vs ", styles.quiet).put(f"{ghost.name(s)} ╌", styles.ghost))]
        for rank, change in enumerate(changes(s, before)):
            text = Line(f"  {change.name} ", styles.quiet).put(signed(change.share), styles.client)
            parts.append((rank + (1 if rank < 2 else 3), text))
        done, was = completion(s), completion(before)
        if censored(s, before):
            told = Line("  CENSORED", styles.attention).put(f" {completed(done)}", styles.client)
            parts.append((0, told.put(f", was {completed(was)}", styles.quiet)))
        else:
            parts.append((3, Line("  done ", styles.quiet).put(completed(done), styles.client)))
        return fitting(parts, width)
