"""The bottom line of a screen without the load's strip: the keys that hold there."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.action import SCREENS_FOOT, Action
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.banner import OVER
from rvtop.ui.widgets.footer import Footer

#: What does nothing where no load runs.
_STEERING = ("nudge(1)", "percent(10)", "go", "pause", "mark")


class PlaceFooter(Footer):
    DEFAULT_CSS = """
    PlaceFooter { height: 1; }
    """

    def keys(self, s: Snapshot) -> list[tuple[Action, str]]:
        over = s.state in OVER
        steers = not over and s.state != "starting" and shell_of(self).replay is None
        table = [
            a
            for a in shell_of(self).actions
            if a.in_foot(self.places) and (steers or a.action not in _STEERING)
            # Where a list has the screen, its own keys have the room.
            if a.action != "record" and a.foot < SCREENS_FOOT
        ]
        if "cursor(1)" in {a.action for a in table} and "Q" in self.places:  # ↑↓ are the cursor in a list
            table = [a for a in table if not a.action.startswith(("nudge", "percent"))]
        if "C" in self.places:  # which compares: a load is steered here too, but seldom
            table = [a for a in table if a.where != "*"]
        own = [a for a in table if a.where not in ("A", "*")]
        others = sorted((a for a in table if a.where in ("A", "*")), key=lambda a: a.foot)
        return [(a, "leave" if over and a.action == "quit" else a.label) for a in (*own, *others)]
