"""Boxes that read again each second: they end with their box, and what stays costs nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made
import pytest
from driven import opened, screen_text
from textual.screen import Screen
from textual.widgets import Static

import rvtop.ui.screens.log as log
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.help import HelpText, PanelHelpScreen
from rvtop.ui.screens.log import LogScreen
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.screens.verdict import VerdictScreen
from rvtop.ui.widgets.ttft import TtftPanel


def boxes(app: RvtopApp, folder: Path) -> dict[str, Callable[[], Screen[Any]]]:
    (folder / "backend.log").write_text("one line\n")
    return {
        "log": lambda: LogScreen(folder / "backend.log"),
        "text": lambda: TextScreen("text", lambda: ["one line"]),
        "verdict": lambda: VerdictScreen(lambda: app.live.newest if app.live else None),
        "help": lambda: PanelHelpScreen(app.screen.query_one(TtftPanel)),
    }


@pytest.mark.parametrize("name", ["log", "text", "verdict", "help"])
async def test_a_box_has_no_timer_once_it_is_closed(name: str, tmp_path: Path) -> None:
    app = RvtopApp(made.FakeHandle(made.bound()))
    async with opened(app) as pilot:
        box = boxes(app, tmp_path)[name]()
        await app.push_screen(box)
        timers = list(box._timers)
        assert timers
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen is app.live
        assert not box.is_running
        assert all(timer._task is None or timer._task.done() for timer in timers)


@pytest.mark.parametrize("name", ["log", "text", "verdict", "help"])
async def test_a_box_whose_text_stays_is_not_drawn_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = RvtopApp(made.FakeHandle(made.bound()))
    async with opened(app) as pilot:
        box = boxes(app, tmp_path)[name]()
        await app.push_screen(box)
        await pilot.pause()
        drawn: list[object] = []
        monkeypatch.setattr(Static, "update", lambda self, *_, **__: drawn.append(self))
        monkeypatch.setattr(HelpText, "refresh", lambda self, *_, **__: drawn.append(self))
        read = box.query_one(HelpText).make_again if name == "help" else box._read  # type: ignore[attr-defined]
        for _ in range(3):
            read()
        assert not drawn


async def test_a_log_is_read_again_only_when_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, reads = tmp_path / "backend.log", []
    file.write_text("first\n")
    whole = log.last_lines
    monkeypatch.setattr(log, "last_lines", lambda *given: reads.append(given) or whole(*given))
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app) as pilot:
        box = LogScreen(file)
        await app.push_screen(box)
        await pilot.pause()
        before = len(reads)
        box._read()
        assert len(reads) == before
        file.write_text("first\nsecond\n")
        os.utime(file, ns=(1, 1))  # on a file system that dates coarsely the size tells
        box._read()
        await pilot.pause()
        assert len(reads) == before + 1
        assert "second" in screen_text(app)
