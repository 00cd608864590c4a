"""The bottom line: what to press now, or for a moment what just happened."""

from __future__ import annotations

from textual import events

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.draw import Line
from rvtop.ui.format import clip
from rvtop.ui.keys import LIVE, Key
from rvtop.ui.widgets.panel import Panel

OVER = ("done", "lost", "failed", "crashed")
#: Where not all keys fit, the order in which they are left out (the help lists them all); q always stays.
_DROPPED = ("app.focus_next", "next_phase", "zoom", "nudge(10)", "pause", "go", "nudge(1)", "again", "help")
_LOAD_KEYS = ("nudge(1)", "nudge(10)", "go", "pause", "next_phase")


class Footer(Panel, can_focus=False):
    DEFAULT_CSS = """
    Footer { height: 1; }
    """

    def __init__(self, *, can_choose_again: bool = False) -> None:
        super().__init__()
        self.can_choose_again = can_choose_again
        self.notice = ""
        self._spans: list[tuple[int, int, str]] = []

    def keys(self, s: Snapshot) -> list[tuple[Key, str]]:
        """The keys that do something now, with what each would do."""
        shown: list[tuple[Key, str]] = []
        for key in LIVE:
            label = key.label
            if key.action in _LOAD_KEYS and (s.state in OVER or s.state == "starting"):
                continue
            if key.action in ("zoom", "app.focus_next") and not s.series.t_s:
                continue
            if key.action == "next_phase" and (s.phase is None or s.phase.index + 1 >= s.phase.count):
                continue
            if key.action == "again":
                if s.state in OVER and self.can_choose_again:
                    shown.insert(0, (key, "choose another"))
                continue
            if not key.short:
                continue
            if key.action == "pause" and s.state == "paused":
                label = "send again"
            if key.action == "quit" and s.state in OVER:
                label = "leave"
            shown.append((key, label))
        return shown

    def one_line(self, s: Snapshot, width: int) -> Line:
        self._spans = []
        if self.notice:
            notice = clip(self.notice, max(0, width - 4))
            return Line(" ! ", self.rich_styles.attention).put(notice, self.rich_styles.attention)
        shown = self.keys(s)
        for dropped in _DROPPED:
            if sum(len(k.short or k.show) + len(label) + 4 for k, label in shown) <= width:
                break
            shown = [(k, label) for k, label in shown if k.action != dropped]
        line = Line(" ")
        for key, label in shown:
            line.put("   " if line.width > 1 else "")
            begin = line.width
            line.put(key.short or key.show, self.rich_styles.command).put(f" {label}", self.rich_styles.quiet)
            self._spans.append((begin, line.width, key.action))
        return line

    async def on_click(self, event: events.Click) -> None:
        for begin, end, action in self._spans:
            if begin <= event.x < end and not action.startswith("nudge"):
                await self.screen.run_action(action)
