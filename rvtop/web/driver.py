"""Textual's web driver, in a viewer's process: it also ends when its server does, however that ended."""

from __future__ import annotations

from textual import messages
from textual.drivers.web_driver import WebDriver


class ViewerDriver(WebDriver):
    """Talks to ``rvtop.web.viewer`` by stdin and stdout."""

    def run_input_thread(self) -> None:
        super().run_input_thread()
        if not self.exit_event.is_set():  # stdin has ended
            self._app.post_message(messages.ExitApp())
