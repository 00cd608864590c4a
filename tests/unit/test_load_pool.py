"""Load workers as processes: a start that does not come to its end leaves nothing and says nothing."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from rvtop.load.messages import WorkerSpec
from rvtop.load.pool import PoolError, WorkerPool
from rvtop.load.schedule import PhasePlan
from rvtop.load.target import Address
from tests.unit.processes import children, wait_for


def pool(count: int, prompts: Path) -> WorkerPool:
    spec = WorkerSpec(
        0, count, 0, 3, Address("http://127.0.0.1:1"), str(prompts), ("m",), {}, (PhasePlan("p"),)
    )
    return WorkerPool(spec, lambda delta: None, lambda index: None)


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
    starting = asyncio.create_task(pool(2, tmp_path / "none").start())
    await asyncio.to_thread(wait_for, lambda: len(workers()) == 2, "both workers")
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert workers() == []
    del starting
    assert await silent(caplog, capfd)


async def test_workers_that_all_fail_are_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PoolError, match="none"):
        await pool(2, tmp_path / "none").start()
    assert workers() == []
    assert await silent(caplog, capfd)
