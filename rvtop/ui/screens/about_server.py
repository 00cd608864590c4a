"""The key that tells of the server under load: its engines, their arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvtop.ui.describe import describe_server
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.text import TextScreen


class AboutServer(SessionScreen):
    """Opens a box with what the server and the run folder tell."""

    def action_describe(self) -> None:
        self.run_worker(self._describe(), exclusive=True, group="describe")

    async def _describe(self) -> None:
        s = self.newest
        if s is None:
            return
        held = await asyncio.to_thread(_environment, s.out_dir)
        if self.is_current:
            lines = describe_server(s, held)
            self.app.push_screen(TextScreen("the server", lambda: lines))


def _environment(folder: str | None) -> Mapping[str, Any]:
    """``environment.json`` of a run folder; empty where there is none that can be read."""
    from rvtop.results.stored import environment_of  # only once it is asked for

    return environment_of(Path(folder)) if folder else {}
