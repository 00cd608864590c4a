"""One row for what spoils all other figures, the worst first: a server that does not answer, a client that
can't keep up, a cluster whose head is gone."""

from __future__ import annotations

from rich.style import Style

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import age, clip, count
from rvtop.ui.widgets.panel import Panel


def head_lost_s(s: Snapshot) -> float | None:
    """Seconds since the cluster's head answered, while it does not."""
    return s.cluster.head_lost_s if s.cluster is not None else None


class NoticePanel(Panel, can_focus=False):
    NAME = "notice"
    PLACE = "top"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._before: dict[str, int] = {}  # errors by class when the server last answered

    def wants(self, s: Snapshot) -> bool:
        limited = s.target_down_s is not None or s.load.client_limited is not None
        return s.state not in OVER and (limited or head_lost_s(s) is not None)

    def show(self, s: Snapshot) -> None:
        if s.target_down_s is None:
            self._before = dict(s.load.errors)
        super().show(s)

    def one_line(self, s: Snapshot, width: int) -> Line:
        if s.target_down_s is not None:
            return self._down(s, s.target_down_s, width)
        if s.load.client_limited is not None:
            return self._row("CLIENT-LIMITED", [s.load.client_limited], width)
        lost = f"Ray's head has not answered for {age(head_lost_s(s) or 0.0)}"
        return self._row("DEGRADED", ["scaling paused, serving continues", lost], width)

    def _down(self, s: Snapshot, silent_s: float, width: int) -> Line:
        since = ((name, n - self._before.get(name, 0)) for name, n in s.load.errors)
        classes = ", ".join(f"{count(n)} {name}" for name, n in since if n > 0)
        load = "the load goes on; space pauses it" if s.load.target_rps else ""
        return self._row(f"NOT ANSWERING {age(silent_s)}", [classes, s.target.url, load], width)

    def _row(self, chip: str, texts: list[str], width: int) -> Line:
        """A filled chip, and as many of ``texts`` as fit, the first one cut if it must be."""
        styles = self.rich_styles
        first = Line(f" ✗ {chip} ", styles.trouble + Style(reverse=True))
        room = width - first.width - 2
        parts = []
        for rank, text in enumerate(text for text in texts if text):
            part = Line("  ") if rank == 0 else Line(" │ ", styles.faint)
            part.put(clip(text, max(0, room)) if rank == 0 else text, styles.base if rank else styles.trouble)
            parts.append((rank + 1, part))
        return fitting([(0, first), *parts], width)
