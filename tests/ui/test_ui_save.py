"""The key s: a report or a page that plays the run, while it goes on; a recording as a scenario."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import pytest
from driven import show
from test_ui_app import opened, screen_text, until

from rvtop.errors import UserError
from rvtop.results.__main__ import main
from rvtop.ui.app import RvtopApp
from rvtop.ui.saving import REPORT
from rvtop.ui.screens import session_screen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.recording_name import RecordingNameScreen
from rvtop.ui.screens.save import SaveScreen
from tests.unit.run_folder import make, phase, request, second


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_box_tells_its_keys_and_where_files_go(size: tuple[int, int]) -> None:
    async with opened(app := RvtopApp(made.FakeHandle(replace(made.live(), out_dir="runs/one"))), *size) as p:
        await p.press("s")
        await until(p, lambda: isinstance(app.screen, SaveScreen))
        assert "r report   c clip   s scenario" in screen_text(app)
        if size[0] >= 80:
            assert "nothing is recorded" in screen_text(app)
            assert "Pages go to runs/one" in screen_text(app)
        await p.press("s")  # there is no recording to save
        await p.press("escape")
        await until(p, lambda: isinstance(app.screen, LiveScreen))


async def test_a_page_is_made_while_all_goes_on_and_its_place_or_fault_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Path] = []

    async def saved(folder: Path) -> Path:
        asked.append(folder)
        return folder / REPORT

    async def failed(folder: Path) -> Path:
        raise UserError("the disk is full")

    monkeypatch.setattr(session_screen, "save_report", saved)
    monkeypatch.setattr(session_screen, "save_clip", failed)
    handle = made.FakeHandle(replace(made.live(), out_dir="runs/one"))
    async with opened(app := RvtopApp(handle)) as pilot:
        await pilot.press("s", "r")
        await until(pilot, lambda: "report: runs/one/report.html" in screen_text(app))
        await pilot.press("s", "c")
        await until(pilot, lambda: "no clip: the disk is full" in screen_text(app))
    assert asked == [Path("runs/one")]
    assert handle.sent == []


async def test_a_recording_is_named_and_ends() -> None:
    recording = replace(made.live(), out_dir="runs/one", recording_s=192.0, recording_unnamed=True)
    async with opened(app := RvtopApp(made.FakeHandle(recording))) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: "ends the recording of 03:12" in screen_text(app))
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, RecordingNameScreen))


async def test_the_box_for_its_name_tells_how_long_a_recording_is_by_now() -> None:
    recording = replace(made.live(), out_dir="runs/one", recording_s=15.0, recording_unnamed=True)
    handle = made.FakeHandle(recording)
    async with opened(app := RvtopApp(handle)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: "ends the recording of 00:15" in screen_text(app))
        await show(app, pilot, handle, replace(recording, recording_s=68.0))
        await pilot.press("s")
        await until(pilot, lambda: "01:08 as a scenario" in screen_text(app))


def test_the_report_of_a_run_that_goes_on_leaves_its_folder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [request(0, "live", 100, lag=0, first=50, last=90)]
    run = make(tmp_path / "run", rows, [phase("live", 0.0, None)], [second(1.0)])
    there = sorted(path.name for path in run.iterdir())
    assert main(["--html", str(tmp_path / "page.html"), str(run)]) == 0
    assert '<th scope="row">live</th>' in (tmp_path / "page.html").read_text("utf-8")
    assert sorted(path.name for path in run.iterdir()) == there  # no summary of a run that is not over
    assert main(["--html", str(tmp_path / "none.html"), str(tmp_path / "nowhere")]) != 0
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "none.html").exists()
