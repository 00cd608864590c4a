"""A batch with an engine that computes nothing: each row exactly once, whatever breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rvtop.batch.folder import ERRORS, RESULTS, Folder
from rvtop.batch.job import TRIES, Job, Plan
from rvtop.batch.summary import same_lines, summarise
from rvtop.errors import UserError
from tests.batch_engine import COMPUTED, PLAN, STARTED, command, tokens_for

COUNT, LIMIT_S = 40, 120.0


def rows_file(tmp_path: Path, count: int = COUNT, bad: int = 1) -> Path:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [
        {"id": f"r{i}", "prompt": "x", "max_tokens": 1 + i % 5} for i in range(count)
    ]
    rows += [{"id": f"bad{i}", "prompt": ""} for i in range(bad)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plan_of(folder: Path, **plan: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(json.dumps(plan))


def job_of(tmp_path: Path, *hows: str, **more: Any) -> Job:
    clock = {"clock": more.pop("clock")} if "clock" in more else {}
    plan = Plan(rows_file(tmp_path), hows or ("generate",), "tiny", tmp_path / "out", **more)
    return Job(plan, command=command, **clock)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def check_once(out: Path, count: int = COUNT, bad: int = 1) -> None:
    """Each row stands there once, with its own answer."""
    found = lines(out / RESULTS)
    assert sorted(line["custom_id"] for line in found) == sorted(f"r{i}" for i in range(count))
    assert [line["custom_id"] for line in lines(out / ERRORS)] == [f"bad{i}" for i in range(bad)]
    for line in found:
        key = int(line["id"].rpartition("_")[2])
        body = line["response"]["body"]
        wanted = tokens_for({"key": key, "max_tokens": 1 + (key - 1) % 5})
        assert body["choices"][0]["token_ids"] == wanted
        assert body["usage"]["completion_tokens"] == len(wanted)


def computed(out: Path) -> Counter[str]:
    return Counter((out / COMPUTED).read_text().split())


async def test_three_ways_write_the_same_each_in_its_folder(tmp_path: Path) -> None:
    job = job_of(tmp_path, "generate", "map-batches", "ray-data-llm", engines=2)
    await job.run()
    assert job.exit_code == 0
    for how in job.plan.hows:
        check_once(tmp_path / "out" / how)
    found = summarise(job, "done")
    assert found["same"]["ray-data-llm"] == {"compared": COUNT, "identical": COUNT, "differing": []}
    assert same_lines(found["same"])[0] == f"map-batches: {COUNT} of {COUNT} rows as generate"
    assert found["ways"]["generate"]["rows"]["ok"] == COUNT
    assert found["ways"]["generate"]["occupied_share"] == pytest.approx(0.5)
    assert len((tmp_path / "out" / "generate" / STARTED).read_text().split()) == 2  # a process an engine
    assert not list((tmp_path / "out").rglob("*work.jsonl"))
    job.close()


async def test_what_differs_is_told_with_its_place(tmp_path: Path) -> None:
    job = job_of(tmp_path, "generate", "map-batches")
    await job.run()
    path = tmp_path / "out" / "map-batches" / RESULTS
    found = lines(path)
    changed = next(line for line in found if line["custom_id"] == "r4")
    changed["response"]["body"]["choices"][0]["token_ids"][2] = 5
    path.write_text("".join(json.dumps(line) + "\n" for line in found))
    differing = summarise(job, "done")["same"]["map-batches"]["differing"]
    assert [(one["custom_id"], one["at"]) for one in differing] == [("r4", 2)]
    job.close()


async def test_an_engine_that_dies_or_refuses_costs_no_other_row(tmp_path: Path) -> None:
    plan_of(tmp_path / "out", die=7, refuses=[12])
    job = job_of(tmp_path)
    await job.run()
    assert job.exit_code == 0
    lane = job.lanes[0]
    assert (lane.done, lane.errors, lane.restarts) == (COUNT - 1, 2, 1)
    assert {line["line"] for line in lines(tmp_path / "out" / ERRORS)} == {12, COUNT + 1}
    assert max(computed(tmp_path / "out").values()) == 1
    job.close()


class HurriedClock:
    """Goes ahead by 1 000 s each time somebody looks while the engine's first start hangs."""

    def __init__(self, out: Path) -> None:
        self._out, self._ahead = out, 0.0

    def __call__(self) -> float:
        if (self._out / "hung").exists() and alive(int((self._out / STARTED).read_text().split()[0])):
            self._ahead += 1_000
        return time.monotonic() + self._ahead


async def test_an_engine_from_which_nothing_comes_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rvtop.batch.job._LOOK_S", 0.02)
    plan_of(tmp_path / "out", hang=5)
    job = job_of(tmp_path, clock=HurriedClock(tmp_path / "out"))
    await asyncio.wait_for(job.run(), LIMIT_S)
    check_once(tmp_path / "out")
    assert job.lanes[0].restarts == 1
    job.close()


async def test_a_part_that_brings_nothing_is_given_up_while_another_goes_on(tmp_path: Path) -> None:
    plan_of(tmp_path / "out", die=0, part=1, bad_starts=99, pause_s=0.05)
    job = job_of(tmp_path, engines=2)
    await job.run()
    lane = job.lanes[0]
    assert (job.exit_code, lane.state, lane.restarts) == (5, "failed", TRIES - 1)
    assert lane.done == COUNT // 2  # all of the other part
    job.close()


async def test_engines_that_bring_nothing_are_given_up(tmp_path: Path) -> None:
    plan_of(tmp_path / "out", die=0, bad_starts=99)
    job = job_of(tmp_path)
    await job.run()
    assert job.exit_code == 5
    assert job.lanes[0].state == "failed"
    assert f"{TRIES} starts brought no row: exit code 9" in job.lanes[0].reason
    assert len((tmp_path / "out" / STARTED).read_text().split()) == TRIES
    job.close()


@pytest.mark.parametrize(("kind", "code", "starts"), [("usage", 2, 1), ("start", 4, 2)])
async def test_one_way_that_can_t_start_keeps_the_next_unless_what_was_asked_is_wrong(
    tmp_path: Path, kind: str, code: int, starts: int
) -> None:
    for how in ("generate", "map-batches"):
        plan_of(tmp_path / "out" / how, kind=kind)
    job = job_of(tmp_path, "generate", "map-batches")
    await job.run()
    assert job.exit_code == code
    assert job.lanes[0].reason == "the model is\\x1b[31m not there"
    assert len(list((tmp_path / "out").rglob(STARTED))) == starts
    job.close()


def test_a_kill_at_half_and_resume_end_with_each_row_once(tmp_path: Path) -> None:
    file, out = rows_file(tmp_path), tmp_path / "out"
    plan_of(out, pause_s=0.02)
    words = [sys.executable, "-m", "tests.batch_engine", "job", str(file), str(out)]
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    until(lambda: (out / RESULTS).exists() and len((out / RESULTS).read_bytes().splitlines()) >= COUNT // 2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    engine = int((out / STARTED).read_text())
    until(lambda: not alive(engine))  # it ends with us
    done = (out / RESULTS).read_bytes()
    whole = done[: done.rfind(b"\n") + 1]
    (out / RESULTS).write_bytes(whole + b'{"custom_id": "r39", "resp')  # a line that was cut off

    refused = subprocess.run(words, capture_output=True, text=True)
    assert refused.returncode == 1  # an exception of the command's own: this is not rvtop's main
    assert "go on with --resume" in refused.stderr
    ended = subprocess.run([*words, "--resume"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    check_once(out)
    assert (out / RESULTS).read_bytes().startswith(whole)
    # Computed twice is at most what was in flight: the row that it was at, and one in the pipe.
    assert sum(times - 1 for times in computed(out).values()) <= 2
    summary = json.loads((out / "summary.json").read_text())
    rows = summary["ways"]["generate"]["rows"]
    assert rows["ok"] == COUNT
    assert rows["before"] == len(whole.splitlines())


def alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def until(true: Any) -> None:
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_folder_is_of_one_batch_and_of_one_command(tmp_path: Path) -> None:
    first = job_of(tmp_path)
    with pytest.raises(UserError, match="a batch runs there"):
        job_of(tmp_path, resume=True)
    first.close()
    with pytest.raises(UserError, match="holds a batch already; go on with --resume"):
        job_of(tmp_path)
    with pytest.raises(UserError, match="is the batch of other ways"):
        job_of(tmp_path, "map-batches", resume=True)
    job_of(tmp_path, resume=True).close()
    plan = Plan(rows_file(tmp_path, COUNT + 1), ("generate",), "tiny", tmp_path / "out", resume=True)
    with pytest.raises(UserError, match="is the batch of another file"):
        Job(plan, command=command)


def test_a_batch_without_one_answer_fails(tmp_path: Path) -> None:
    plan = Plan(rows_file(tmp_path, count=0, bad=2), ("generate",), "tiny", tmp_path / "out")
    job = Job(plan, command=command)
    asyncio.run(job.run())
    assert job.exit_code == 1
    assert not (tmp_path / "out" / STARTED).exists()  # nothing is started for it
    job.close()


def test_lines_that_are_no_batch_s_are_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, line in ((ERRORS, {"custom_id": "a"}), (RESULTS, ["custom_id"])):
        out.mkdir(exist_ok=True)
        (out / name).write_text(json.dumps(line) + "\n")
        with pytest.raises(UserError, match=f"{name}:1: is no line of a batch's"):
            Folder(out, "m")
        (out / name).unlink()
