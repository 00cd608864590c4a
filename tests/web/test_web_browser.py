"""The web view in a real browser, where there is one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.mock.fast import any_mock
from tests.web.browser import PROGRAM, tab
from tests.web.sessions import served


@pytest.mark.skipif(PROGRAM is None, reason="needs chromium")
async def test_a_browser_draws_the_session_and_its_keys_arrive_there(tmp_path: Path) -> None:
    with (
        any_mock(ttft_ms=20, step_ms=5, tokens=8) as mock,
        tempfile.TemporaryDirectory() as folder,
        served(mock.url, Path(folder) / "run") as running,
    ):
        async with tab() as page:
            await page.open(running.url)
            await page.until("document.body && document.body.classList.contains('-first-byte')")
            await page.until_drawn("READ-ONLY")
            assert await page.value("location.href") == f"{running.base}/"
            await page.call("Input.insertText", text="g")
            await page.until_drawn("read-only: this screen only watches")
            await page.picture(tmp_path / "page.png")
            refusals = [line for line in page.log if "Content Security Policy" in line or "Failed" in line]
            assert refusals == []
    assert (tmp_path / "page.png").stat().st_size > 10_000  # an empty one has half of it
