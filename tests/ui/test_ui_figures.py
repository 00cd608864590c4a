"""What the screens say of a recorded run is what its summary.json says: a real run against the mock."""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made
import pytest
from driven import opened, show, text_of, until

from rvtop.contract.command import Cancel
from rvtop.contract.snapshot import Snapshot
from rvtop.results.recording import read_recording
from rvtop.session.replay import ReplaySession
from rvtop.ui.app import RvtopApp
from rvtop.ui.draw import large
from rvtop.ui.format import count, rate, sig3
from rvtop.ui.widgets.banner import Banner
from rvtop.ui.widgets.end import EndPanel
from rvtop.ui.widgets.latency import LatencyPanel
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock

#: A screen's percentiles come from buckets that are up to 2 % wide, and have three digits.
TOLERANCE = 0.025
SLO_MS = 5000.0


@dataclass(frozen=True)
class Run:
    """A run that has ended: its folder, its last two pictures, its summary."""

    folder: Path
    running: Snapshot
    last: Snapshot
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """About 120 requests of one phase, of which some were cancelled."""
    folder = tmp_path_factory.mktemp("run") / "run"

    async def play(url: str) -> tuple[Snapshot, Snapshot]:
        phase = {"name": "a", "rate": 60, "duration": "2s"}
        watched = Watched(request(url, folder, phase, slo={"ttft_ms": SLO_MS}))
        running = await watched.until(lambda s: s.load.ok >= 40 and s.load.in_flight, "the load")
        watched.send(Cancel())
        outcome = await watched.end()
        assert outcome.exit_code == 0, outcome.message
        return running, watched.now

    with any_mock(ttft_ms=20, step_ms=4) as mock:
        running, last = asyncio.run(play(mock.url))
    return Run(folder, running, last, json.loads((folder / "summary.json").read_bytes()))


def number(text: str) -> float:
    return float(text.replace(" ", ""))


def around_p99(run: Run, until: str) -> tuple[float, float]:
    """The two of the run's times from the intended one to ``until``, ms, between which its p99 lies: the
    summary interpolates, a screen takes the one that 99 % do not exceed."""
    rows = [json.loads(line) for line in (run.folder / "requests.jsonl").read_text().splitlines()]
    times = sorted((row[until] - row["intended_ns"]) / 1e6 for row in rows if row["error"] is None)
    at = 0.99 * (len(times) - 1)
    return times[math.floor(at)], times[math.ceil(at)]


def check_p99(shown: str, run: Run, key: str, until: str) -> None:
    """A p99 on a screen and that of the summary are of the same requests."""
    low, high = around_p99(run, until)
    assert low * (1 - 1e-9) <= run.summary[key]["p99"] <= high * (1 + 1e-9)
    assert low * (1 - TOLERANCE) <= number(shown) <= high * (1 + TOLERANCE)


def figures(table: str, name: str) -> list[str]:
    """The client's figures in a row of the latency table."""
    row = next(line for line in table.splitlines() if line.split()[:1] == [name])
    return re.split(r"\s{2,}", row.partition(name)[2].strip())


async def test_the_end_card_has_the_summarys_figures(run: Run) -> None:
    summary, handle = run.summary, made.FakeHandle(run.running)
    app = RvtopApp(handle)
    async with opened(app, 160, 44) as pilot:
        await show(app, pilot, handle, run.last)
        await until(
            pilot, lambda: "completed" in text_of(app, EndPanel) and "trust" in text_of(app, EndPanel)
        )
        card = text_of(app, EndPanel)
    asked, errors = summary["requests"], summary["requests"]["errors"]
    assert errors["cancelled"] > 0
    for digits in large(sig3(summary["ttft_ms"]["p99"])):
        assert digits.strip() in card
    for text in (
        f"{count(asked['planned'])} requests in",
        sig3(summary["kpm"]["tps"]),
        sig3(summary["e2e_ms"]["mean"]),
        rate(summary["goodput_rps"]),
        f"of {rate(summary['rate']['requested_rps'])} asked",
        f"completed {summary['kpm']['completed_pct']:.4g} %",
        f"SLO {SLO_MS:g} {'held' if summary['ttft_ms']['p99'] <= SLO_MS else 'missed'}",
    ):
        assert text in card
    below = next(line for line in card.splitlines() if "completed" in line)
    above = card.splitlines()[card.splitlines().index(below) - 1]
    assert re.search(rf"\b{count(sum(errors.values()))}\b", above)


async def test_the_replay_screen_has_the_summarys_figures(run: Run) -> None:
    summary = run.summary
    replay = ReplaySession(read_recording(run.folder), str(run.folder))
    app = RvtopApp(replay=replay)
    async with opened(app, 160, 44) as pilot:
        replay.seek(replay.length_s)
        app.poll()
        await pilot.pause()
        banner, table = text_of(app, Banner), text_of(app, LatencyPanel)
    asked, failed = summary["requests"], sum(summary["requests"]["errors"].values())
    assert f"{count(asked['sent'])} sent, {count(asked['ok'])} ok, {count(failed)} failed" in banner
    assert re.search(rf"tokens {count(summary['tokens']['output'])}\b", banner), banner
    told = re.search(r"phase TTFT p50 (\S+)  p99 (\S+) ms", banner)
    assert told is not None
    assert number(told[1]) == pytest.approx(summary["ttft_ms"]["p50"], rel=TOLERANCE)
    check_p99(told[2], run, "ttft_ms", "first_token_ns")
    check_p99(figures(table, "TTFT")[3], run, "ttft_ms", "first_token_ns")
    check_p99(figures(table, "E2E")[3], run, "e2e_ms", "last_token_ns")
    assert number(figures(table, "ITL")[3]) == pytest.approx(summary["itl_ms"]["p99"], rel=TOLERANCE)
