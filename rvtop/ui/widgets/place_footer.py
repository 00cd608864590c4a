"""The bottom line of a screen without the load's strip: the keys that hold there."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.action import SCREENS_FOOT, Action
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.footer import Footer


class PlaceFooter(Footer):
    DEFAULT_CSS = """
    PlaceFooter { height: 1; }
    """

    def keys(self, s: Snapshot) -> list[tuple[Action, str]]:
        table = [
            a
            for a in shell_of(self).actions
            # Where a list has the screen, its own keys have the room.
            if a.in_foot(self.places) and a.action != "record" and a.foot < SCREENS_FOOT
            if not self.idle(a, s)
        ]
        if shell_of(self).replay is not None:  # there is no load
            table = [a for a in table if not a.steers]
        if "cursor(1)" in {a.action for a in table} and "Q" in self.places:  # ↑↓ are the cursor in a list
            table = [a for a in table if not a.action.startswith(("nudge", "percent"))]
        if "C" in self.places:  # which compares: a load is steered here too, but seldom
            table = [a for a in table if a.where != "*"]
        table.sort(key=lambda a: (a.where in ("A", "*"), a.foot))
        return [(a, a.label if a.action == "palette" else self.label(a, s)) for a in table]
