"""A batch on real engines: three ways with the same answers, and an engine that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rvtop.batch.folder import Folder
from rvtop.batch.job import HOWS, Job, Plan
from rvtop.batch.lane import Lane
from tests.backends.batch_rows import POISON, answers, check_poison, ties, write_rows

FLAGS = ("--dtype", "float32", "--threads", "1", "--max-num-seqs", "8", "--batch-size", "8")
LIMIT_S = 600.0


def run_rvtop(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "rvtop.cli", "batch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)


def ours() -> set[int]:
    """Processes that belong to a batch: its own, and those that it has started."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and b"RVTOP_BATCH_FOLDER=" in Path(f"/proc/{name}/environ").read_bytes():
                found.add(int(name))
        except OSError:
            continue
    return found


def test_three_ways_have_the_same_answers_and_the_same_errors(
    tmp_path: Path, tiny_model: Path, reference_model: Callable[[], tuple[Any, Any]]
) -> None:
    before = ours()
    good = write_rows(tmp_path / "rows.jsonl", 40, 64, mean=3.0)
    out = tmp_path / "out"
    words = ("--model", tiny_model, "--out", out, "--how", "all", *FLAGS)
    ended = run_rvtop(tmp_path / "rows.jsonl", *words, "--json")
    logs = "\n".join(path.read_text("utf-8", "replace")[-3000:] for path in out.rglob("batch.log"))
    assert ended.returncode == 0, f"{ended.stderr}\n{logs}"
    found = {how: answers(out / how) for how in HOWS}
    for how in HOWS:
        assert set(found[how]) == set(good)
        check_poison(out / how)
        ties(tmp_path / "rows.jsonl", found["generate"], found[how], reference_model())
    summary = json.loads(ended.stdout)
    for way in summary["ways"].values():
        assert way["rows"] == {**way["rows"], "total": 40, "ok": len(good), "errors": len(POISON), "again": 0}
        assert way["max_num_seqs"] == 8
        assert 0 < way["occupied_share"] <= 1
        assert 0 <= way["bubble_share"] < 1
        assert way["tokens"]["output"] == sum(len(tokens) for tokens in found["generate"].values())
    # Only between batches does a place stand empty that a row waits for.
    assert summary["ways"]["map-batches"]["bubble_share"] > summary["ways"]["generate"]["bubble_share"]
    until(lambda: ours() <= before)
    again = run_rvtop(tmp_path / "rows.jsonl", *words, "--resume", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["ways"]["generate"]["rows"]["computed"] == 0


class Watched(Job):
    """A batch of which a test knows its engines."""

    engines: list[int]

    def _take(self, lane: Lane, folder: Folder, progress: Any, event: Mapping[str, Any]) -> None:
        if event["event"] == "engine":
            self.engines = [*getattr(self, "engines", []), int(event["pid"])]
        super()._take(lane, folder, progress, event)


@pytest.mark.parametrize("how", HOWS)
async def test_a_batch_ends_though_one_of_two_engines_is_killed(
    how: str, tmp_path: Path, tiny_model: Path
) -> None:
    good = write_rows(tmp_path / "rows.jsonl", 64, 512, mean=5.5)
    plan = Plan(
        tmp_path / "rows.jsonl", (how,), str(tiny_model), tmp_path / "out", engines=2, arguments=FLAGS
    )
    job = Watched(plan)
    running = asyncio.create_task(job.run())
    lane = job.lanes[0]
    async with asyncio.timeout(LIMIT_S):
        while not (len(getattr(job, "engines", [])) >= 2 and lane.rows >= 8):
            assert not running.done(), (lane, (tmp_path / "out" / "batch.log").read_text()[-3000:])
            await asyncio.sleep(0.05)
        os.kill(job.engines[0], signal.SIGKILL)
        await running
    job.close()
    assert lane.state == "done", (lane.reason, (tmp_path / "out" / "batch.log").read_text()[-3000:])
    assert lane.done == len(good)
    assert set(answers(tmp_path / "out")) == set(good)
    check_poison(tmp_path / "out")
    assert len(job.engines) >= 3  # another took its place


@pytest.mark.parametrize("how", HOWS)
def test_a_kill_at_half_leaves_nothing_behind_and_resume_ends_it(
    how: str, tmp_path: Path, tiny_model: Path
) -> None:
    before = ours()
    good = write_rows(tmp_path / "rows.jsonl", 64, 512, mean=5.5)
    out = tmp_path / "out"
    words = (tmp_path / "rows.jsonl", "--model", tiny_model, "--out", out, "--how", how, *FLAGS)
    command = [sys.executable, "-P", "-m", "rvtop.cli", "batch", *map(str, words), "--ui", "none"]
    killed = subprocess.Popen(command)
    try:
        until(lambda: written(out) >= len(good) // 2 or killed.poll() is not None)
    finally:
        killed.kill()
        killed.wait()
    kept = written(out)
    assert len(good) // 2 <= kept < len(good)
    until(lambda: ours() <= before)
    ended = run_rvtop(*words, "--resume", "--json")
    log = (out / "batch.log").read_text("utf-8", "replace")[-3000:]
    assert ended.returncode == 0, f"{ended.stderr}\n{log}"
    assert set(answers(out)) == set(good)
    check_poison(out)
    rows = json.loads(ended.stdout)["ways"][how]["rows"]
    # What was written is not computed again; what was in flight is, at most.
    assert (rows["before"], rows["computed"], rows["again"]) == (kept, len(good) - kept, 0)


def written(out: Path) -> int:
    """Whole lines of results."""
    path = out / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
