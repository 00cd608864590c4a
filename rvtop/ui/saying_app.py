"""Keys that only say something, whatever screen is up."""

from __future__ import annotations

from rvtop.ui.sharing import READ_ONLY, Sharing
from rvtop.ui.themed_app import ThemedApp


class SayingApp(ThemedApp):
    """``say`` is the app's own: a line on the screen that is up."""

    sharing: Sharing

    def say(self, text: str) -> None:
        raise NotImplementedError

    def action_nothing(self) -> None:
        """Does nothing, on purpose."""

    def action_read_only(self) -> None:
        """What steers, on a screen that only watches."""
        self.say(READ_ONLY)

    def action_copy_web_address(self) -> None:
        """The web view's address with its token; to the clipboard alone, and no file."""
        self.copy_to_clipboard(self.sharing.web_url)
        self.say("copied the web view's address; who has it sees this session")

    def action_why_not_stop(self) -> None:
        """Ctrl-Z."""
        self.say("ctrl+z would stop the load's clocks; use another window, or space to pause")

    def action_say_showdown(self) -> None:
        """The showdown's key, where there is none."""
        self.say("no showdown runs here: rvtop showdown SCENARIO begins one; 4 compares two runs")
