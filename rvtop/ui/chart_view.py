"""What all charts of a screen show alike: the window, the second under the cursor, the ghost."""

from __future__ import annotations

from dataclasses import dataclass, field

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.ghost import Ghost
from rvtop.ui.span import WINDOWS_S, window_of


@dataclass(slots=True)
class ChartView:
    """One for all charts of a screen. ``window_s`` None: it grows with the run. ``cursor_s``: the second that
    a frozen screen shows, if it is not the last one. ``by_rate``: against the rate instead of time."""

    window_s: int | None = None
    cursor_s: float | None = None
    ghost: Ghost | None = None
    by_rate: bool = False
    hidden: set[tuple[str, str]] = field(default_factory=set)  # lines of charts: (panel, entry of its legend)

    @property
    def shown(self) -> tuple[object, ...]:
        """What of it is drawn with the next snapshot; a line that is hidden is drawn at once."""
        return self.window_s, self.cursor_s, self.ghost, self.by_rate

    def hide_next(self, panel: str, entries: tuple[str, ...]) -> None:
        """Hides the next line of ``panel`` in place of the one that is hidden; behind the last one none."""
        hidden = [entry for entry in entries if (panel, entry) in self.hidden]
        place = entries.index(hidden[-1]) + 1 if hidden else 0
        self.hidden -= {(panel, entry) for entry in entries}
        if place < len(entries):
            self.hidden.add((panel, entries[place]))

    def window(self, s: Snapshot) -> int:
        """How much time the charts show, seconds."""
        times = s.series.t_s  # which begin when the load does: a server that starts takes its time before
        return self.window_s or window_of(times[-1] - times[0] + 1 if times else s.t_s)

    def step(self, s: Snapshot | None, by: int) -> bool:
        """Makes the window longer or shorter by a step; False where it is the longest or shortest one."""
        now = self.window_s or (self.window(s) if s is not None else WINDOWS_S[0])
        place = WINDOWS_S.index(now) + by
        if not 0 <= place < len(WINDOWS_S):
            self.window_s = now
            return False
        self.window_s = WINDOWS_S[place]
        return True
