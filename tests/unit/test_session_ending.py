"""Causes of a session's end, and what becomes of work that the user does not wait for."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from rvtop.contract.command import Stop
from rvtop.session.ending import Ending, Interrupted


def ending(folder: Path) -> tuple[Ending, list[int]]:
    """One, and a list that grows with each wake-up."""
    woken: list[int] = []
    return Ending(folder, lambda: woken.append(1)), woken


async def test_work_that_ends_before_any_stop_gives_its_result(tmp_path: Path) -> None:
    end, woken = ending(tmp_path)

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await end.unless_stopped(work()) == 7
    assert (woken, end.wanted) == ([], False)


async def test_a_stop_cancels_the_work_at_once(tmp_path: Path) -> None:
    end, woken = ending(tmp_path)
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(end.unless_stopped(work()))
    await asyncio.sleep(0)
    end.stop_by(Stop("quit"), "keyboard")
    end.stop_by(Stop("interrupted"), "signal")  # the first wish counts
    for _ in range(5):  # turns of the loop, no time
        await asyncio.sleep(0)
    assert cancelled.is_set()
    with pytest.raises(Interrupted):
        await waiting
    assert end.stop == Stop("quit")
    assert (len(woken), end.wanted, end.failed) == (2, True, False)


async def test_work_that_fails_raises_its_own_error(tmp_path: Path) -> None:
    end, _ = ending(tmp_path)

    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await end.unless_stopped(work())


def test_a_fault_of_ours_ends_the_run_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    end, woken = ending(tmp_path / "run")
    end.open_folder(adopt_stderr=False)

    def broken(figure: int) -> None:
        raise ZeroDivisionError("no such\nfigure")

    end.guarded(broken)(1)
    assert (len(woken), end.failed) == (1, True)
    log = tmp_path / "run" / "session.log"
    assert "Traceback" in log.read_text()
    error = end.crashed(ZeroDivisionError("no such\nfigure"))
    assert str(error) == f"the session crashed: see {log}: ZeroDivisionError: no such figure"
    assert error.exit_code == 5
    end.close()


def test_a_limit_of_the_machine_is_named_in_a_session_as_it_is_anywhere(tmp_path: Path) -> None:
    end, _ = ending(tmp_path / "run")
    end.open_folder(adopt_stderr=False)
    error = end.crashed(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert str(error).startswith("too many open files: this process may have ")
    end.close()


def test_without_a_log_a_fault_of_ours_says_how_to_see_more(tmp_path: Path) -> None:
    end, _ = ending(tmp_path / "run")
    assert "internal error: ZeroDivisionError: x (RVTOP_TRACEBACK=1" in str(
        end.crashed(ZeroDivisionError("x"))
    )
