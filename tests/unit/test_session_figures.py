"""Figures of a server's pages through a whole session: snapshot, plain line, timeline and summary."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest
from telemetry_pages import golden

from rvtop.contract.command import Stop
from rvtop.contract.snapshot import Series
from rvtop.plain import figures_line
from rvtop.results.recording import read_recording
from tests.backends.prometheus_server import pages
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock

PAGE = """
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 3
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 0
"""


async def test_idle_gpus_and_figures_with_a_label_come_through(tmp_path: Path) -> None:
    loop = {"name": "loop", "concurrency": 4, "duration": "60s"}
    with (
        any_mock(ttft_ms=30, step_ms=10, tokens=8) as mock,
        pages(lambda _: golden("dcgm.prom") + PAGE) as url,
    ):
        watched = Watched(request(mock.url, tmp_path / "run", loop, metrics_urls=(url,)))
        seen = await watched.until(
            # The page's server tells of no requests: those in flight are ours.
            lambda s: s.gpus and s.gpus[0].idle_share is not None and s.t_s > 3.0,
            "a second with requests in flight",
        )
        watched.send(Stop())
        outcome = await watched.end()
    assert [gpu.idle_share for gpu in seen.gpus] == [0.0, 1.0]
    assert dict(seen.figures) == {"waiting_by_reason/capacity": 3, "waiting_by_reason/deferred": 0}
    assert seen.engines[0].figures == seen.figures
    assert "running --  waiting --  KV -- %  waiting for capacity 3" in figures_line(seen)
    assert watched.rows("timeline.jsonl")[-1]["figures"] == seen.figures
    assert outcome.summary is not None
    server = outcome.summary["server"]
    assert server["waiting_by_reason_max"] == {"capacity": 3, "deferred": 0}
    assert [gpu["idle_share"] for gpu in server["gpus"]] == [0.0, 1.0]
    replayed_as_written(watched, range(len(read_recording(watched.out)) - 1))


def replayed_as_written(watched: Watched, seconds: Iterable[int]) -> None:
    """Fails unless a replay shows in these seconds what ``timeline.jsonl`` says of them."""
    rows = {row["t_s"]: row for row in watched.rows("timeline.jsonl")}
    recording = read_recording(watched.out)
    for index in seconds:
        shown = recording.at(index)
        row = rows[shown.series.t_s[-1]]
        last = {one.name: getattr(shown.series, one.name)[-1] for one in fields(Series)}
        assert last == {name: row[name] for name in last}
        assert dict(shown.figures) == row["figures"]
        assert (shown.phase.name if shown.phase else None) == row["phase"]


@pytest.mark.slow  # it has to last
async def test_ten_random_seconds_are_replayed_as_they_were_written(tmp_path: Path) -> None:
    ramp = {"name": "ramp", "rate": {"from": 5, "to": 60, "shape": "linear"}, "duration": "25s"}
    with (
        any_mock(ttft_ms=30, step_ms=10, tokens=8) as mock,
        pages(lambda _: golden("dcgm.prom") + PAGE) as url,
    ):
        watched = Watched(request(mock.url, tmp_path / "run", ramp, metrics_urls=(url,)))
        await watched.end()
    count = len(read_recording(watched.out))
    assert count >= 20
    replayed_as_written(watched, random.Random(7).sample(range(count - 1), 10))


async def test_requests_of_a_run_are_listed_with_their_parts(tmp_path: Path) -> None:
    loop = {"name": "loop", "concurrency": 2, "duration": "60s"}
    with any_mock(ttft_ms=30, step_ms=5, tokens=4) as mock:
        watched = Watched(request(mock.url, tmp_path / "run", loop))
        seen = await watched.until(lambda s: len(s.requests.slowest) > 3, "requests that are listed")
        watched.send(Stop())
        await watched.end()
    lines = {row["id"]: row for row in watched.rows("requests.jsonl")}
    for row in seen.requests.slowest:
        line = lines[row.id]
        assert row.ttft_ms == (line["first_token_ns"] - line["intended_ns"]) / 1e6
        assert row.parts is not None
        assert abs(row.parts.total - row.ttft_ms) <= 1.0
    assert seen.requests.count >= len(seen.requests.slowest)
