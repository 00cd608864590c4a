"""The live screen of a stored run: every key but the load's, and a handle to move in it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from rvtop.contract.replay import Replay
from rvtop.ui.screens.instant import InstantScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.sharing import STORED_RUN
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.panel import Panel
from rvtop.ui.widgets.recording import RecordingPanel, signed


class ReplayScreen(LiveScreen):
    """Shows what the screen showed then."""

    PLACES: ClassVar[str] = "AP"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,plus,down,minus,left_curly_bracket,right_curly_bracket,u,X,r,o,L", "no_load", show=False)
    ]

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        if shell.replay is None:
            raise ValueError("there is no stored run to show")
        self.replay: Replay = shell.replay
        self._handle = RecordingPanel(self.replay)

    def panels(self) -> list[Panel]:
        """Live's, and the handle between events and keys."""
        made = super().panels()
        return [*made[:-1], self._handle, made[-1]]

    def on_mount(self) -> None:
        super().on_mount()
        if self.replay.notes:
            self.notify_briefly(self.replay.notes[0])

    def tick(self) -> None:
        """Moves the handle's cursor."""
        super().tick()
        self._handle.repaint()

    def _go(self, t_s: float) -> None:
        self.replay.seek(t_s)
        self.shell.poll()
        self._handle.repaint()

    def action_no_load(self) -> None:
        """The keys of the load that nothing here takes say why they do nothing."""
        self.notify_briefly(STORED_RUN)

    def action_go_to(self, t_s: float) -> None:
        self._go(t_s)

    def action_play(self) -> None:
        self.replay.toggle()
        self.shell.poll()

    def action_move(self, seconds: float) -> None:
        self._go(self.replay.position_s + seconds)

    def action_frame(self, count: int) -> None:
        self.replay.step(count)
        self._go(self.replay.position_s)

    def action_speed(self, steps: int) -> None:
        if not self.replay.change_speed(steps):
            self.notify_briefly(f"{self.replay.speed:g} times is the {'fastest' if steps > 0 else 'slowest'}")
        self._handle.repaint()

    def action_next_mark(self) -> None:
        here = self.replay.position_s
        later = [e.t_s for e in signed(self.replay.events) if e.t_s is not None and e.t_s > here + 1e-6]
        if later:
            self._go(min(later))
        else:
            self.notify_briefly("no mark, warning or error comes after this")

    def action_phase(self, step: int) -> None:
        here = self.replay.position_s
        begins = [t for t, _ in self.replay.phases]
        found = [t for t in begins if t > here + 1e-6] if step > 0 else [t for t in begins if t < here - 1.0]
        if found:
            self._go(found[0] if step > 0 else found[-1])
        else:
            self.notify_briefly("this is the last phase" if step > 0 else "this is the first phase")

    def action_go_to_time(self) -> None:
        def typed(t_s: float | None) -> None:
            if t_s is not None:
                self._go(t_s)

        self.app.push_screen(InstantScreen(self.replay.length_s), typed)
