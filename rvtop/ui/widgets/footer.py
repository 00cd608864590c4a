"""The bottom line: what to press now, or for a moment what just happened."""

from __future__ import annotations

from textual import events

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.action import Action
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, wall
from rvtop.ui.keymap import footer_key
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.hints import GAP, LOAD_PLACES, Hints, hints
from rvtop.ui.widgets.panel import Panel

#: What stays to the end where not all keys fit.
_LAST = ("help", "quit")


class Footer(Panel, can_focus=False):
    DEFAULT_CSS = """
    Footer { height: 1; }
    """
    NAME = "footer"
    PLACE = "bottom"

    def __init__(self, places: str, *, can_choose_again: bool = False) -> None:
        super().__init__()
        self.places = places
        self.can_choose_again = can_choose_again
        self.notice = ""
        self.frozen = False
        self.load_keys_above = False  # the load's rule shows its keys
        self._hints = Hints(Line(), ())
        self._lead = 1  # cells before the keys

    def idle(self, action: Action, s: Snapshot) -> bool:
        """Whether a key does nothing now."""
        steers = action.where == "*" and action.foot in LOAD_PLACES
        steers = steers or action.action in ("next_phase", "mark", "record")
        if steers and (s.state in OVER or s.state == "starting"):
            return True
        if action.action in ("freeze", "window(-1)"):
            return not s.series.t_s or s.state in OVER
        if action.action == "next_phase":
            return s.phase is None or s.phase.index + 1 >= s.phase.count
        return action.action == "ghost" and shell_of(self).ghosts.ghost is None

    def label(self, action: Action, s: Snapshot) -> str:
        """What the key would do now."""
        now = {
            "record": "end recording" if s.recording_s is not None else "",
            "palette": "all actions",
            "freeze": "follow again" if self.frozen else "",
            "pause": "send again" if s.state == "paused" else "",
            "quit": "leave" if s.state in OVER else "",
        }
        return now.get(action.action) or action.label

    def keys(self, s: Snapshot) -> list[tuple[Action, str]]:
        """The keys that do something now, with what each would do."""
        table = sorted((a for a in shell_of(self).actions if a.in_foot(self.places)), key=lambda a: a.foot)
        shown = [
            (action, self.label(action, s))
            for action in table
            if not self.idle(action, s)
            and not (self.load_keys_above and action.where == "*" and action.foot in LOAD_PLACES)
            and action.action != "app.show_screen('live')"  # that is this one
        ]
        again = next(a for a in shell_of(self).actions if a.action == "again")
        if s.state in OVER and self.can_choose_again and again.keys:
            shown.insert(0, (again, "choose another"))
        return shown

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        if self.notice:
            self._hints = Hints(Line(), ())
            notice = clip(self.notice, max(0, width - 4))
            return Line(" ! ", styles.attention).put(notice, styles.attention)
        phase = (s.phase.index, s.phase.count) if s.phase is not None else None
        held = (self.frozen, wall(s.unix_s) if self.frozen else "")
        compared = s.showdown is not None and s.showdown.over
        differs = (s.recording_s is not None, shell_of(self).ghosts.ghost is not None)
        key = (s.state, phase, compared, bool(s.series.t_s), held, differs, self.load_keys_above, width)
        line, self._hints, self._lead = self.once(key, lambda: self._keys_line(s, width))
        return line

    def _keys_line(self, s: Snapshot, width: int) -> tuple[Line, Hints, int]:
        """The line of keys, the keys in it, and how many cells stand before them."""
        styles, actions = self.rich_styles, shell_of(self).actions
        shown = self.keys(s)
        frozen = Line(f" ‖ FROZEN {wall(s.unix_s)} ", styles.attention).put(GAP)
        lead = frozen if self.frozen else Line(" ")
        before = lead.width

        def size() -> int:
            keys = sum(len(footer_key(action, actions)) + 1 + len(label) for action, label in shown)
            return lead.width + keys + len(GAP) * (len(shown) - 1)

        while size() > width and len(shown) > 1:
            least = [one for one in shown if one[0].action not in _LAST] or [shown[0]]
            shown.remove(max(least, key=lambda one: one[0].foot))
        found = hints(styles, shown, actions)
        return lead.join(found.line), found, before

    async def on_click(self, event: events.Click) -> None:
        await self._hints.click(self, event.x - self._lead)
