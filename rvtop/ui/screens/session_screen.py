"""What every screen that shows a session has in common: snapshots, notices, what can be done anywhere."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingsMap
from textual.screen import Screen

from rvtop.contract.command import Record
from rvtop.contract.run_files import BACKEND_LOG
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import replay_line
from rvtop.errors import UserError
from rvtop.ui.command_of import command_of
from rvtop.ui.keep import copied_text, save_picture
from rvtop.ui.keymap import bindings
from rvtop.ui.saving import save_clip, save_report
from rvtop.ui.screens.log import LogScreen
from rvtop.ui.screens.save import Saved, SaveScreen
from rvtop.ui.shell import ScreenShell
from rvtop.ui.svg import picture_of, still
from rvtop.ui.widgets.footer import Footer
from rvtop.ui.widgets.panel import Panel

#: Seconds that a notice stays in the footer.
NOTICE_S = 3.0


class SessionScreen(Screen[None]):
    """A screen of the table in ``screens/table.py``.

    The application feeds the one on top: ``show`` gets each new snapshot, ``tick`` comes with every poll.
    ``PLACES`` says which actions of ``keys.ACTIONS`` hold here.
    """

    PLACES: ClassVar[str] = "A"
    AUTO_FOCUS = ""

    def __init__(self, shell: ScreenShell) -> None:
        super().__init__()
        self._bindings = BindingsMap.merge(
            [self._bindings, BindingsMap(bindings(shell.actions, self.PLACES))]
        )
        self.shell = shell
        self.ready = False  # its widgets are mounted
        self.snapshot: Snapshot | None = None  # the one that is drawn
        self._panels: list[Panel] = []
        self._notice_until = 0.0

    @property
    def newest(self) -> Snapshot | None:
        """The snapshot that came last; another than ``snapshot`` where the picture is held."""
        return self.snapshot

    def on_mount(self) -> None:
        self._panels = list(self.query(Panel))
        self.ready = True
        self.shell.poll()

    def on_screen_resume(self) -> None:
        """Shows now, and not with the next poll, what has changed while another screen was on top."""
        if self.ready:
            self.shell.poll()

    def on_resize(self) -> None:
        for panel in self._panels:  # one that keeps its size may have other text on a screen of another size
            panel.repaint()

    def show(self, s: Snapshot) -> None:
        """Draws ``s``. The caller holds the batch."""
        self.snapshot = s
        for panel in self._panels:
            panel.show(s)

    def restyle(self) -> None:
        """Draws all again, in the shell's styles of now."""
        for panel in self._panels:
            panel.forget()
            panel.repaint()

    def tick(self) -> None:
        """Updates what depends on the time alone."""
        if self._notice_until and self.shell.clock() >= self._notice_until:
            self._notice_until = 0.0
            self._footer("")

    def notify_briefly(self, text: str) -> None:
        """Shows one line in place of the keys for NOTICE_S."""
        self._notice_until = self.shell.clock() + NOTICE_S
        self._footer(text)

    def _footer(self, notice: str) -> None:
        for footer in self.query(Footer):
            footer.notice = notice
            footer.repaint()

    # -- what can be done anywhere -------------------------------------------------------------

    @property
    def panel_in_focus(self) -> Panel | None:
        return self.focused if isinstance(self.focused, Panel) else None

    def action_help(self) -> None:
        panel = self.panel_in_focus
        self.shell.show_help(panel.TOPIC if panel is not None else None, self.PLACES)

    def action_help_of(self, topic: str) -> None:
        """The help of the panel of ``topic``, also where another one has the focus."""
        self.shell.show_help(topic, self.PLACES)

    def action_events(self) -> None:
        self.shell.show_events()

    def action_palette(self) -> None:
        self.shell.show_palette(self.PLACES)

    def action_picture(self) -> None:
        svg = still(picture_of(self.app))
        if self.app.is_web:  # the disk here is not the viewer's
            name = time.strftime("rvtop-%Y%m%d-%H%M%S.svg")
            self.app.deliver_text(io.StringIO(svg), save_filename=name, mime_type="image/svg+xml")
            return
        out = self.newest.out_dir if self.newest is not None else None
        try:
            path = save_picture(svg, out)
        except OSError as error:
            self.notify_briefly(f"no picture: {error.filename}: {error.strerror}")
        else:
            self.notify_briefly(f"picture: {path}")

    def action_save(self) -> None:
        """Asks what to save, and saves it while all goes on."""
        s, replay = self.newest, self.shell.replay
        folder = replay.folder if replay is not None else s.out_dir if s is not None else None
        if self.app.is_web:  # the disk here is not the viewer's
            self.notify_briefly("not from a browser: rvtop report RUN --html FILE, rvtop share RUN")
            return
        if s is None or not folder:
            self.notify_briefly("nothing to save yet")
            return
        recorded_s = s.recording_s if replay is None else None

        def chosen(what: Saved | None) -> None:
            if what == "scenario" and not s.recording_unnamed:
                self.shell.send(Record(on=False))
            elif what == "scenario":
                now = self.newest or s  # the recording went on while the box stood open
                self.shell.name_recording(now.recording_s or 0.0, lambda: None)
            elif what is not None:
                self.run_worker(self._save(what, Path(folder)), exclusive=True, group="save")

        self.app.push_screen(SaveScreen(folder, recorded_s), chosen)

    async def _save(self, what: Saved, folder: Path) -> None:
        self.notify_briefly(f"{what}: being made …")
        try:
            path = await (save_report if what == "report" else save_clip)(folder)
        except (UserError, OSError) as error:
            self.notify_briefly(f"no {what}: {error}")
        else:
            self.notify_briefly(f"{what}: {path}")

    def action_copy(self) -> None:
        panel = self.panel_in_focus
        panels = [panel] if panel is not None else [one for one in self._panels if one.region.area]
        text = "\n".join(line for one in panels for line in one.plain_text())
        self.copy(text, "the panel's text" if panel is not None else "the screen's text")

    def copy(self, text: str, what: str) -> None:
        """Copies ``text`` to the clipboard, and to a file for terminals without one."""
        self.app.copy_to_clipboard(text)
        if self.app.is_web:  # the disk here is not the viewer's
            self.notify_briefly(f"copied {what} to the clipboard")
            return
        try:
            path = copied_text(text)
        except OSError as error:
            self.notify_briefly(f"copied {what} to the clipboard; {error.filename}: {error.strerror}")
        else:
            self.notify_briefly(f"copied {what} to the clipboard and to {path}")

    def action_back(self) -> None:
        if self.focused is None:
            self.notify_briefly("q leaves")
        self.set_focus(None)

    def action_runs(self) -> None:
        self.shell.show_runs()

    def action_copy_command(self) -> None:
        s, replay = self.newest, self.shell.replay
        command = replay_line(replay.folder) if replay is not None else command_of(s) if s is not None else ""
        if command:
            self.copy(command, f"“{command}”")
        else:
            self.notify_briefly("no command line begins this session")

    def action_log(self) -> None:
        s, replay = self.newest, self.shell.replay
        folder = replay.folder if replay is not None else s.out_dir if s is not None else None
        if s is None or not (s.target.owned or s.backend_log) or folder is None:
            self.notify_briefly("no log: rvtop did not start this server")
        else:
            self.app.push_screen(LogScreen(Path(folder) / (s.backend_log or BACKEND_LOG)))

    async def action_quit(self) -> None:
        await self.app.run_action("quit")
