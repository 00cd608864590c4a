"""Load workers as processes: a start that does not come to its end leaves nothing and says nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import pytest

from rvtop.load.fleet.local import PoolError, WorkerPool
from rvtop.load.plan.schedule import PhasePlan
from rvtop.load.wire.endpoint import Address
from rvtop.load.worker.messages import WorkerSpec
from tests.unit.processes import children, wait_for


def pool(count: int, prompts: Path, log: int | None = None) -> WorkerPool:
    spec = WorkerSpec(
        0, count, 0, 3, Address("http://127.0.0.1:1"), str(prompts), ("m",), {}, (PhasePlan("p"),)
    )
    return WorkerPool(spec, lambda delta: None, lambda index, why: None, log)


def workers() -> list[int]:
    return [pid for pid, what in children().items() if "rvtop.load.worker" in what]


async def silent(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> bool:
    """Whether neither asyncio nor a worker has said a word, also of futures that are gone now."""
    await asyncio.sleep(0)
    gc.collect()
    return (caplog.text, *capfd.readouterr()) == ("", "", "")


async def test_a_cancelled_start_leaves_no_process_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "prompts")  # nobody writes them, so that both wait for ever
    starting = asyncio.create_task(pool(2, tmp_path / "prompts").start())
    await asyncio.to_thread(wait_for, lambda: len(workers()) == 2, "both workers")
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert workers() == []
    del starting
    assert await silent(caplog, capfd)


async def test_a_worker_that_dies_at_its_start_is_told_of_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: no numpy' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with (tmp_path / "session.log").open("w+b") as log, pytest.raises(PoolError) as failed:
        await pool(1, tmp_path / "none", log.fileno()).start()
    assert str(failed.value) == "load worker 0 did not start: exit code 1: ImportError: no numpy"
    assert failed.value.exit_code == 5
    assert (tmp_path / "session.log").read_text() == "ImportError: no numpy\n"
    assert caplog.text == ""


async def test_workers_that_all_fail_are_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PoolError, match="none"):
        await pool(2, tmp_path / "none").start()
    assert workers() == []
    assert await silent(caplog, capfd)
