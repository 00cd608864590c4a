"""The screen of a batch: its lanes in every size, and the keys that leave it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from driven import until

from rvtop.batch.job import HOWS, Job
from rvtop.batch.lane import Lane
from rvtop.errors import UserError
from rvtop.ui.batch_app import BatchApp
from rvtop.ui.batch_lines import BatchView, batch_lines
from rvtop.ui.look import Look
from rvtop.ui.theme import DARK, Styles

STYLES = Styles(DARK)
SIZES = [(24, 6), (40, 12), (80, 24), (120, 40), (200, 60)]
ROW = {"prompt_tokens": 9, "token_ids": [1] * 40}


def occupied(busy: float) -> dict[str, Any]:
    return {"span_s": 1.0, "busy_s": busy, "steps": 20, "step_s": 1.0, "slots": 8}


def lanes() -> list[Lane]:
    """One that is done, one with bubbles that runs, one that waits."""
    done, runs, waits = (Lane(how, total=40) for how in HOWS)
    done.begin(0.0)
    for second in range(10):
        done.occupied(occupied(8.0), 5.0 + second)
        for _ in range(4):
            done.row(ROW, 5.0 + second)
    done.end(15.0, "done")
    runs.begin(15.0)
    runs.errors, runs.restarts = 4, 1
    for second in range(20):
        runs.occupied(occupied(8.0 if second % 4 == 0 else 1.0), 20.0 + second)
        runs.row(ROW, 20.0 + second)
    return [done, runs, waits]


def view(**more: Any) -> BatchView:
    return BatchView("q.jsonl · 40 rows · tiny", lanes(), now=39.0, began=0.0, **more)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_every_size(width: int, height: int) -> None:
    for notes in ((), ("map-batches: 40 of 40 rows as generate", "results: out")):
        lines = batch_lines(view(notes=notes, over=bool(notes)), STYLES, width, height)
        assert len(lines) == height
        assert all(line.width <= width for line in lines)


def test_bubbles_are_seen_and_time_has_one_scale() -> None:
    text = [line.text for line in batch_lines(view(), STYLES, 80, 40)]
    heads = [number for number, line in enumerate(text) if line.startswith("── ")]
    generate, batches, llm = (text[a:b] for a, b in zip(heads, [*heads[1:], len(text)], strict=True))
    assert "done ──" in generate[0]
    assert "40/40" in generate[1]
    assert "100 % taken  bubbles 0 %" in generate[2]
    assert "24/40" in batches[1]
    assert "ETA 00:16" in batches[1]
    assert "errors 4" in batches[1]
    assert "34 % taken" in batches[2]
    assert "bubbles 66 %" in batches[2]
    assert "waits for its turn" in llm[1] + llm[2]
    full, holes = ("".join(part[3:]) for part in (generate, batches))
    assert "·" not in full
    assert full.count("█") == 6 * len(generate[3].strip())
    assert 0.5 < holes.count("·") / (holes.count("·") + holes.count("█") + 1e-9) < 0.9
    # One second is as wide in one as in the other.
    assert len(batches[3].strip()) / 20 == pytest.approx(len(generate[3].strip()) / 10, rel=0.1)


class Job_:
    """A batch whose end the test decides."""

    def __init__(self) -> None:
        self.plan = SimpleNamespace(file=Path("q.jsonl"), name="", model="tiny\x1b")
        self.lanes, self.began, self.codes = lanes(), 0.0, list[int]()
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clock = lambda: 39.0
        self.cancelled = False

    async def run(self) -> None:
        try:
            await self.end
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def text_of(app: BatchApp) -> str:
    widget = app.screen.query_one("BatchLanes")
    return "\n".join(widget.render_line(y).text for y in range(widget.size.height))


async def test_it_shows_the_end_and_stays_until_it_is_left() -> None:
    job = Job_()
    app = BatchApp(cast("Job", job), Look(STYLES), lambda kind: [f"{kind}: 40 of 40 rows"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.hears and "stop, keep results" in text_of(app))
        assert "tiny\\x1b" in text_of(app)
        job.end.set_result(None)
        await until(pilot, lambda: "done: 40 of 40 rows" in text_of(app))
        assert "q leave" in text_of(app)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
    assert app.how == "done"
    await app.close_handle()


async def test_leaving_ends_what_runs() -> None:
    job = Job_()
    app = BatchApp(cast("Job", job), Look(STYLES), lambda kind: [])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.hears and "stop, keep results" in text_of(app))
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
    await app.close_handle()
    assert app.how == "interrupted"
    assert job.cancelled


async def test_a_file_that_can_t_be_written_is_told() -> None:
    job = Job_()
    app = BatchApp(cast("Job", job), Look(STYLES), lambda kind: [])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.hears)
        job.end.set_exception(UserError("out: can't be written: No space left on device; make room", 5))
        await until(pilot, lambda: "No space left" in text_of(app))
    assert isinstance(app.error, UserError)
    assert app.how == "failed"
