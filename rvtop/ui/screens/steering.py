"""The keys that steer the load, on every screen that shows a session under load."""

from __future__ import annotations

from rvtop.contract.arms import next_share, steered
from rvtop.contract.command import (
    Cancel,
    Mark,
    NextPhase,
    Pause,
    Record,
    Resume,
    SetConcurrency,
    SetRate,
    SetSlo,
    SetSplit,
    SetWorkload,
    Undo,
)
from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.format import count, rate
from rvtop.ui.rate_phrase import Bounds
from rvtop.ui.screens.confirm import CancelScreen, ConfirmScreen
from rvtop.ui.screens.mark import MarkScreen
from rvtop.ui.screens.rate import RateScreen
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.slo import SloScreen
from rvtop.ui.screens.workload import WorkloadScreen
from rvtop.ui.sharing import READ_ONLY, STORED_RUN
from rvtop.ui.shell import ScreenShell
from rvtop.ui.widgets.load import LoadPanel


class Steering(SessionScreen):
    """Turns keys into commands."""

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__(shell)
        self.pending_rate = shell.pending_rate
        self._may_load = shell.may_load

    def show(self, s: Snapshot) -> None:
        self.put_target()
        super().show(s)

    def tick(self) -> None:
        """Removes a notice that has run out and a rate that the session has not taken."""
        super().tick()
        if self.pending_rate.expire():
            self.show_target()

    def put_target(self) -> None:
        """Hands the rate asked for to the panel that draws it, if the screen has one."""
        for panel in self.query(LoadPanel):
            panel.target, panel.taken = self.pending_rate.shown, self.pending_rate.pending is None
            panel.means = self.shell.rates.recent.means

    def show_target(self) -> None:
        """Draws the rate asked for."""
        self.put_target()
        for panel in self.query(LoadPanel):
            panel.repaint()

    def _steerable(self) -> Snapshot | None:
        """The snapshot if there is a load to steer, else None, with the reason in the footer."""
        s = self.newest
        if self.shell.sharing.readonly:  # a wheel or a click on the dial asks too
            self.notify_briefly(READ_ONLY)
            return None
        if self.shell.replay is not None:
            self.notify_briefly(STORED_RUN)
            return None
        if s is None or s.state == "starting":
            self.notify_briefly("still starting: there is nothing to load yet")
            return None
        if s.state in OVER:
            self.notify_briefly("the session is over; q leaves")
            return None
        return s

    def _send_rate(self, s: Snapshot, command: SetRate | SetConcurrency) -> None:
        sends = isinstance(command, SetConcurrency) or command.rps > 0
        if sends and not self._may_load and not s.target.owned and not s.load.sent:

            def answered(yes: bool | None) -> None:
                if yes:
                    self._may_load = True
                    self._send_rate(s, command)

            self.app.push_screen(ConfirmScreen(s.target.url, _load_of(command)), answered)
            return
        self.shell.send(command)
        if isinstance(command, SetRate) and command.over_s is None:  # a ramp begins where the rate is
            self.pending_rate.ask(command.rps)
        self.show_target()

    def _change(self, rps: float, up: bool) -> None:
        """Asks for ``rps``, or says why it is no change."""
        s = self._steerable()
        if s is None:
            return
        if s.phase is not None and s.phase.concurrency:
            self.notify_briefly("a closed loop has no rate; g sets one, or how many are at once: closed 32")
        elif rps != self.pending_rate.shown:
            self._send_rate(s, SetRate(rps))
        elif up and rps:
            self.notify_briefly(f"{rate(rps)} is the maximum (--max-rate)")
        else:
            self.notify_briefly("the rate is 0 already" if not up else "the rate is 0; ↑ begins")

    def action_nudge(self, delta: float) -> None:
        self._change(self.pending_rate.after(delta), delta > 0)

    def action_percent(self, percent: float) -> None:
        self._change(self.pending_rate.percent(percent), percent > 0)

    def action_times(self, times: float) -> None:
        self._change(self.pending_rate.clamp((self.pending_rate.shown or 0.0) * times), times > 1)

    def action_go(self, begin: str = "") -> None:
        """Opens the box for a rate, with ``begin`` in it."""
        s = self._steerable()
        if s is None:
            return

        def typed(command: SetRate | SetConcurrency | None) -> None:
            if command is not None:
                self._send_rate(s, command)

        at_once = s.phase.concurrency if s.phase is not None else 0
        bounds = Bounds(self.pending_rate.shown, s.load.max_rate, at_once)
        missed = self.shell.rates.memory.missed
        self.app.push_screen(RateScreen(bounds, missed, begin), typed)

    def action_pause(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if s.state == "paused":
            self.shell.send(Resume())
        elif s.state == "running":
            self.shell.send(Pause())
        else:
            self.notify_briefly("nothing is being sent; ↑ begins")

    def action_next_phase(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if s.phase is None or s.phase.count == 1:
            self.notify_briefly("this session has one phase without end")
        elif s.phase.index + 1 >= s.phase.count:
            self.notify_briefly("this is the last phase; q ends the run")
        else:
            self.shell.send(NextPhase())

    def action_phase_again(self) -> None:
        if self._steerable() is not None:
            self.shell.send(NextPhase("again"))

    def action_undo(self) -> None:
        if self._steerable() is not None:
            self.shell.send(Undo())

    def action_mark(self) -> None:
        if self.shell.replay is not None:
            self.notify_briefly("a stored run takes no more marks; ' goes to the next one that it has")
            return
        if self._steerable() is None:
            return

        def typed(note: str | None) -> None:
            if note is not None:
                self.shell.send(Mark(note))

        self.app.push_screen(MarkScreen(), typed)

    def action_cancel(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if not s.load.in_flight:
            self.notify_briefly("nothing is in flight")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.shell.send(Cancel())

        self.app.push_screen(CancelScreen(count(s.load.in_flight)), answered)

    def action_slo(self) -> None:
        s = self._steerable()
        if s is None:
            return

        def typed(slo: SetSlo | None) -> None:
            if slo is not None:
                self.shell.send(slo)

        self.app.push_screen(SloScreen(s.slo_ttft_ms), typed)

    def action_arm(self, more: bool) -> None:
        """The next larger or smaller share for the last arm of the name that the server splits."""
        s = self._steerable()
        if s is None:
            return
        arm = steered(s.arms)
        if arm is None or arm.asked is None:
            self.notify_briefly("this server splits no name; start it with --split ALIAS=MODEL:SHARE,…")
            return
        share = next_share(100 * arm.asked, more=more)
        if share == 100 * arm.asked:
            self.notify_briefly(f"{arm.name} has {share:g} % already")
        else:
            self.shell.send(SetSplit(arm.name, share, arm.alias))

    def action_workload(self) -> None:
        if self._steerable() is None:
            return

        def typed(workload: SetWorkload | None) -> None:
            if workload is not None:
                self.shell.send(workload)

        self.app.push_screen(WorkloadScreen(), typed)

    def action_record(self) -> None:
        s = self._steerable()
        if s is None:
            return
        if s.recording_s is None:
            self.shell.send(Record())
        elif self.app.is_web or not s.recording_unnamed:  # a browser names no file on this disk
            self.shell.send(Record(on=False))
        else:
            self.shell.name_recording(s.recording_s, lambda: None)


def _load_of(command: SetRate | SetConcurrency) -> str:
    """What a command sends, as the subject of a sentence."""
    if isinstance(command, SetConcurrency):
        return f"{count(command.requests)} requests at once"
    return f"{rate(command.rps)} requests a second"
