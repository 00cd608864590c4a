"""One row for what serving takes: power, energy a token and a request, and money where prices are set."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.contract.spending import Spending
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import MISSING, sig3
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import Panel


def watts(value: float | None) -> str:
    """``412 W``, or ``--``."""
    return MISSING if value is None else f"{sig3(value)} W"


class MoneyPanel(Panel, can_focus=False):
    NAME = "money"
    PLACE = "right"

    def wants(self, s: Snapshot) -> bool:
        return s.spending is not None

    def one_line(self, s: Snapshot, width: int) -> Line:
        found, styles = s.spending, self.rich_styles
        if found is None:
            return Line()
        what = " CPU power " if found.on_cpu else " GPU power "
        parts = [(0, Line(what, styles.quiet).put(watts(found.watts), styles.server))]
        per = Line("  J/token ", styles.quiet).put(sig3(found.joules_per_token), styles.server)
        parts.append((1, per))
        if found.money_per_hour is not None:
            parts.append((2, _money(found, styles)))
        each = Line("  J/request ", styles.quiet).put(sig3(found.joules_per_request), styles.server)
        parts.append((4, each))
        if found.watts_idle is not None:
            parts.append((5, Line("  idle ", styles.quiet).put(watts(found.watts_idle), styles.server)))
        if found.money_per_hour is not None:
            hour = Line("  $/h ", styles.quiet).put(sig3(found.money_per_hour), styles.server)
            parts.append((3, hour))
        return fitting(parts, width)


def _money(found: Spending, styles: Styles) -> Line:
    """Of a million tokens: in and out where the engines tell how to split it, else all alike."""
    line = Line("  $/Mtok ", styles.quiet)
    if found.money_per_mtok_in is None and found.money_per_mtok_out is None:
        return line.put(sig3(found.money_per_mtok), styles.server)
    line.put("in ", styles.quiet).put(sig3(found.money_per_mtok_in), styles.server)
    return line.put(" out ", styles.quiet).put(sig3(found.money_per_mtok_out), styles.server)
