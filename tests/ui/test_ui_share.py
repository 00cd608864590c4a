"""A run as a page that plays it: what it holds is what a replay shows."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.results.recording import Recording
from rvtop.results.screen_log import ScreenCompressor
from rvtop.ui.look import Look
from rvtop.ui.share import shared_page
from rvtop.ui.theme import DARK, Styles
from tests.ui.test_ui_replay import at
from tests.web.browser import PROGRAM, tab

SIZE = (100, 30)


@pytest.fixture(scope="module")
async def page() -> str:
    """Five seconds of a run."""
    recording = Recording()
    for t in range(1, 6):
        recording.add(at(t))
    said: list[str] = []
    made = await shared_page(recording, "story <b>", Look(styles=Styles(DARK)), SIZE, said.append)
    assert said == ["live: 0 of 5 seconds", "map: 0 of 5 seconds", "requests: 0 of 5 seconds"]
    return made


def drawn(page: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data = json.loads(found[1])
    return data, json.loads(gzip.decompress(base64.b64decode(data["packed"])))


def text_of(pictures: dict[str, Any], screen: str, frame: int) -> str:
    rows = (pictures["rows"][row] for row in pictures["screens"][screen][frame])
    return "\n".join(" ".join(re.findall(r">([^<]+)</text>", row)) for row in rows)


async def test_each_second_of_each_screen_is_there_and_equal_rows_once(page: str) -> None:
    data, pictures = drawn(page)
    assert data["t"] == [1, 2, 3, 4, 5]
    assert {name: len(frames) for name, frames in pictures["screens"].items()} == {
        "live": 5,
        "map": 5,
        "requests": 5,
    }
    assert len(set(pictures["rows"])) == len(pictures["rows"])
    first, last = text_of(pictures, "live", 0), text_of(pictures, "live", 4)
    assert "TTFT" in first
    assert first != last
    assert "q leave" not in first  # the page has its own keys


async def test_the_name_of_a_run_is_text(page: str) -> None:
    assert "<h1>story &lt;b&gt;</h1>" in page


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
@pytest.mark.xdist_group("browser")
async def test_a_browser_plays_it(page: str, tmp_path: Path) -> None:
    out = tmp_path / "share.html"
    out.write_text(page, "utf-8")
    _, pictures = drawn(page)
    async with tab() as browser:
        await browser.open(out.as_uri(), width=360, height=800)
        await browser.until("document.querySelectorAll('#screen svg g').length > 10")
        assert await browser.value("document.documentElement.scrollWidth") <= 360
        await browser.value(
            "dispatchEvent.call(document.body, new KeyboardEvent('keydown', {key: 'End', bubbles: true}))"
        )
        assert str(await browser.value("document.getElementById('clock').textContent")).startswith(
            "0:05 of 0:05"
        )
        shown = await browser.value(
            "[...document.querySelectorAll('#screen text')].map(t => t.textContent).join(' ')"
        )
        assert set(str(shown).split()) >= set(re.sub(r"&\w+;", " ", text_of(pictures, "live", 4)).split()) - {
            ""
        }
        await browser.value("document.querySelector('[data-screen=map]').click()")
        assert (
            await browser.value("document.querySelector('[data-screen=map]').getAttribute('aria-pressed')")
            == "true"
        )
        await browser.value(
            "document.getElementById('at').value = 0;"
            "document.getElementById('at').dispatchEvent(new Event('input'));"
            "document.getElementById('speed').value = '32';"
            "document.getElementById('play').click()"
        )
        await browser.until("document.getElementById('clock').textContent.startsWith('0:05')")
        await browser.until("document.getElementById('play').textContent === 'play'")
        assert await browser.faults() == []
        assert browser.log == []


def test_share_writes_a_page_or_says_why_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    screen = ScreenCompressor()
    (run / "screen.jsonl.gz").write_bytes(screen.add(at(1)) + screen.add(at(2)) + screen.end())
    out = tmp_path / "share.html"
    result = CliRunner().invoke(app, ["share", str(run), "--out", str(out), "--size", "80x24"])
    assert result.exit_code == 0, result.output
    assert drawn(out.read_text("utf-8"))[0]["t"] == [1, 2]
    for arguments, text in (
        (
            [str(run), "--out", str(tmp_path / "no" / "x.html"), "--size", "80x24"],
            "can't be written: No such",
        ),
        ([str(tmp_path), "--out", str(out)], "holds no screen.jsonl.gz"),
        ([str(run), "--out", str(out), "--size", "80"], "--size 80: give columns and rows from 40x12 to"),
        ([str(run), "--out", str(out), "--size", "9x9"], "--size 9x9: give columns and rows from 40x12 to"),
    ):
        result = CliRunner().invoke(app, ["share", *arguments])
        assert text in str(result.exception)
