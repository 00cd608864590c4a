"""A big run is summed up in a process of its own, which ends with whoever asked for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rvtop.errors import UserError
from rvtop.results import sum_up as module
from rvtop.results import summary
from rvtop.results.ending import End
from rvtop.results.sum_up import sum_up
from tests.unit.processes import alive, children, wait_for
from tests.unit.run_folder import command, make, phase, request

WAITS = """
import asyncio, sys
from pathlib import Path
from rvtop.results import sum_up
sum_up.BIG = -1
asyncio.run(sum_up.sum_up(Path(sys.argv[1])))
"""


@pytest.fixture
def big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run counts as a big one, which is never summed up in this process."""
    monkeypatch.setattr(module, "BIG", -1)


def folder_of(path: Path) -> Path:
    rows = [request(i, "p", 10 * i, lag=0.5, first=20, last=60, itl_hist=[[460, 4]]) for i in range(50)]
    return make(path, rows, [phase("p", 0, 0.5), command(1, "stop")])


def stuck(path: Path) -> Path:
    """A run whose summing up never ends: nobody reads from the pipe that it writes to."""
    folder_of(path)
    os.mkfifo(path / "summary.json.part")
    return path


def summing(pid: int | None = None) -> list[int]:
    return [child for child, what in children(pid).items() if "-m rvtop.results" in what]


async def test_a_big_run_has_the_summary_of_a_small_one(
    big: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "-run")  # a name that looks like an option
    wanted = summary.summarise(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(summary, "summarise", None)
    assert await sum_up(Path("-run")) == (wanted, "")
    assert json.loads((folder / "summary.json").read_bytes()) == wanted


@pytest.mark.parametrize("size", [-1, 1 << 30])
async def test_a_summary_that_cannot_be_written_is_had_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(module, "BIG", size)
    folder = folder_of(tmp_path)
    (folder / "summary.json.part").mkdir()  # in the way, as a full disk is
    end = End("client_failed", 2, "requests.jsonl: can't be written: No space left on device", {"a": 2})
    figures, problem = await sum_up(folder, end)
    assert "summary.json: can't be written" in problem
    assert figures["end"] == end.for_summary()
    assert (figures["requests"]["planned"], figures["requests"]["ok"]) == (52, 50)
    assert not (folder / "summary.json").exists()


async def test_what_is_wrong_with_a_big_run_is_said_in_its_words(big: None, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rows = folder / "requests.jsonl"
    rows.write_text("oh\n" * 50)
    with pytest.raises(
        UserError, match=r"requests.jsonl: not a file of requests.*line 1: not JSON"
    ) as refused:
        await sum_up(folder)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)


async def test_a_process_that_dies_is_told_of_with_what_to_do(big: None, tmp_path: Path) -> None:
    task = asyncio.create_task(sum_up(stuck(tmp_path)))
    await asyncio.to_thread(wait_for, summing, "the process")
    os.kill(summing()[0], 9)
    with pytest.raises(UserError, match=r"exit code -9.*try: rvtop report"):
        await task


async def test_a_cancelled_one_leaves_no_process(big: None, tmp_path: Path) -> None:
    task = asyncio.create_task(sum_up(stuck(tmp_path)))
    await asyncio.to_thread(wait_for, summing, "the process")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert summing() == []


def test_kill_9_of_the_parent_ends_it(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-P", "-c", WAITS, str(stuck(tmp_path))])
    try:
        wait_for(lambda: summing(parent.pid), "the process")
        (pid,) = summing(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(pid), "it to end")
