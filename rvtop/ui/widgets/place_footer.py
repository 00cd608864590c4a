"""The bottom line of a screen on which no load is steered: the keys that hold there."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.keys import Action
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.banner import OVER
from rvtop.ui.widgets.footer import Footer


class PlaceFooter(Footer):
    DEFAULT_CSS = """
    PlaceFooter { height: 1; }
    """

    def keys(self, s: Snapshot) -> list[tuple[Action, str]]:
        table = [a for a in shell_of(self).actions if a.foot and a.keys and a.holds(self.places)]
        over = s.state in OVER
        own = [a for a in table if a.where not in ("A", "*")]
        others = sorted((a for a in table if a.where in ("A", "*")), key=lambda a: a.foot)
        return [(a, "leave" if over and a.action == "quit" else a.label) for a in (*own, *others)]
