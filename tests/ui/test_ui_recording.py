"""The key r: begins a recording, ends it, asks for its file; leaving asks about one without a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import pytest
from test_ui_app import opened, screen_text, until

from rvtop.contract.command import Record
from rvtop.contract.snapshot import Phase
from rvtop.ui.app import RvtopApp
from rvtop.ui.screens.leave import LeaveScreen, why_ask
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.recording_name import RecordingNameScreen

RECORDING = replace(made.live(), recording_s=192.0, recording_unnamed=True)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_header_says_that_it_is_being_recorded(size: tuple[int, int]) -> None:
    async with opened(app := RvtopApp(made.FakeHandle(RECORDING)), *size):
        header = screen_text(app).splitlines()[0]
        assert "● REC" in header
        assert "00:42" in header  # how far the phase is stays
    async with opened(app := RvtopApp(made.FakeHandle(made.live())), *size):
        assert "REC" not in screen_text(app).splitlines()[0]


async def test_r_begins() -> None:
    handle = made.FakeHandle(made.live())
    async with opened(RvtopApp(handle)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: handle.sent)
    assert handle.sent == [Record()]


async def test_r_again_asks_for_the_file_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.yaml").touch()
    handle = made.FakeHandle(RECORDING)
    async with opened(app := RvtopApp(handle)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, RecordingNameScreen))
        assert "03:12 as a scenario" in screen_text(app)
        await pilot.press(*"old", "enter")
        await until(pilot, lambda: "✗" in screen_text(app))
        assert "already" in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        assert handle.sent == []
        await pilot.press("r", *"new", "enter")
        await until(pilot, lambda: handle.sent)
        await pilot.press("r", "enter")
        await until(pilot, lambda: len(handle.sent) == 2)
    assert handle.sent == [Record(on=False, file=str(tmp_path / "new.yaml")), Record(on=False)]


async def test_one_that_has_a_name_ends_at_once() -> None:
    handle = made.FakeHandle(replace(RECORDING, recording_unnamed=False))
    async with opened(RvtopApp(handle)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: handle.sent)
    assert handle.sent == [Record(on=False)]


async def test_leaving_asks_about_a_recording_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    s = replace(RECORDING, phase=Phase("live", 0, 1, 92.0, None))
    assert why_ask(replace(s, recording_unnamed=False)) == ""
    handle = made.FakeHandle(s)
    async with opened(app := RvtopApp(handle)) as pilot:
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, LeaveScreen))
        assert "the recording of 03:12 has no name" in " ".join(screen_text(app).split())
        await pilot.press("s", *"evening", "enter")
        await until(pilot, lambda: app._exit)
    assert handle.sent == [Record(on=False, file=str(tmp_path / "evening.yaml"))]
    assert handle.closed == 1


async def test_there_is_nothing_to_name_without_a_recording() -> None:
    async with opened(app := RvtopApp(made.FakeHandle(made.live()))) as pilot:
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, LeaveScreen))
        await pilot.press("s")
        assert isinstance(app.screen, LeaveScreen)
