"""What the doctor finds on this machine, in a box: what rvtop doctor prints."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen

from rvtop.ui.screens.text import TextScreen

_LOOKING = "looking …"


def show_doctor(screen: Screen[Any]) -> None:
    """Opens the box above ``screen``; the checks run in a thread, and their lines come as they are done."""
    lines: list[str] = []

    def find() -> None:
        from rvtop.doctor import examine  # only once it is asked for

        examine(deep=False, out=lines.append)
        lines.append("rvtop doctor prints the same; --deep looks closer")

    screen.app.push_screen(TextScreen("doctor", lambda: lines or [_LOOKING]))
    screen.run_worker(find, thread=True, exclusive=True, group="doctor")
