"""The showdown that the screen holds, with fake sessions: its course, skipping, the reference, its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_study_showdown import done

from rvtop.contract.command import Command, Mark, SetRate
from rvtop.contract.snapshot import Snapshot, Target
from rvtop.errors import UserError
from rvtop.session.request import Outcome, SessionRequest, find
from rvtop.study.entries import entries
from rvtop.study.live import REFUSED, LiveShowdown
from rvtop.study.showdown import KEPT_REPEATS, Plan, ShowdownRun


class FakeSession:
    """Runs until it is told to be over; knows how it ended once it is closed."""

    def __init__(self, request: SessionRequest, ends: Outcome) -> None:
        assert request.backend is not None
        self._ends = ends
        self._seq = 0
        self.state = "running"
        self.name = request.backend.topology
        self.outcome: Outcome | None = None
        self.sent: list[Command] = []

    def snapshot(self) -> Snapshot | None:
        self._seq += 1
        target = Target("http://x", self.name, ("m",), owned=True)
        return Snapshot(self._seq, 1.0, 0.0, self.state, "smoke", target)

    def send(self, command: Command) -> None:
        self.sent.append(command)

    async def close(self) -> None:
        self.outcome = self._ends


class Stage:
    """A showdown of ``outcomes`` by topology, and its sessions by hand."""

    def __init__(self, folder: Path, outcomes: dict[str, Outcome], repeat: int | None = 1) -> None:
        self.folder = folder
        self.opened: list[FakeSession] = []
        self.refused: dict[str, str] = {}
        self.by_itself = False  # sessions end as soon as they are looked at

        async def open_session(request: SessionRequest) -> FakeSession:
            assert request.backend is not None
            self.opened.append(FakeSession(request, outcomes[request.backend.topology]))
            if self.by_itself:
                self.opened[-1].state = "done"
            return self.opened[-1]

        def check(request: SessionRequest) -> None:
            assert request.backend is not None
            if why := self.refused.get(request.backend.topology):
                raise UserError(why)

        request = SessionRequest(scenario=find("smoke"), out=folder)
        plan = Plan(entries(tuple(outcomes)), repeat, next(iter(outcomes)))
        state = {"XDG_STATE_HOME": str(folder / "state")}
        self.live = LiveShowdown(ShowdownRun(request, plan, state), open_session, check)

    async def until(self, true: Callable[[], bool]) -> None:
        for _ in range(12_000):
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never came to what was waited for")

    async def opened_so_far(self, number: int) -> FakeSession:
        await self.until(lambda: len(self.opened) == number)
        return self.opened[-1]

    @property
    def states(self) -> dict[str, str]:
        snapshot = self.live.snapshot()
        assert snapshot is not None
        assert snapshot.showdown is not None
        return {score.name: score.state for score in snapshot.showdown.scores}

    @property
    def file(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "showdown.json").read_text())
        return found


THREE = {"rac": done(200), "rsc": done(100), "baseline": done(50)}


async def test_one_after_another_and_the_table_equals_the_file(tmp_path: Path) -> None:
    stage = Stage(tmp_path, THREE)
    live = stage.live.start()
    first = await stage.opened_so_far(1)
    assert stage.states == {"rac": "run", "rsc": "wait", "baseline": "wait"}
    first.state = "done"
    second = await stage.opened_so_far(2)
    assert stage.states == {"rac": "done", "rsc": "run", "baseline": "wait"}
    second.state = "done"
    (await stage.opened_so_far(3)).state = "done"
    await stage.until(lambda: live.run.picture().over)
    await live.close()
    snapshot = live.snapshot()
    assert snapshot is not None
    assert snapshot.showdown is not None
    assert snapshot.state == "done"
    assert live.run.exit_code == 0
    for score, row in zip(snapshot.showdown.scores, stage.file["rows"], strict=True):
        assert (score.name, dict(score.figures), dict(score.change_pct)) == (
            row["name"],
            row["kpm"],
            row["change_pct"],
        )
        assert (score.censored, score.repeats, score.start_s) == (
            row["censored"],
            row["repeats"],
            row["start_s"],
        )


async def test_a_skipped_topology_does_not_count_and_the_next_one_runs(tmp_path: Path) -> None:
    stage = Stage(tmp_path, THREE)
    stage.live.start()
    await stage.opened_so_far(1)
    assert stage.live.skip()
    second = await stage.opened_so_far(2)
    assert stage.states == {"rac": "skipped", "rsc": "run", "baseline": "wait"}
    assert stage.file["rows"][0]["reasons"] == ["skipped"]
    assert second.outcome is None, "only the one that ran was skipped"
    await stage.live.close()
    assert stage.live.run.exit_code == 0
    assert not stage.live.skip(), "nothing runs any more"


async def test_an_end_keeps_what_is_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path, THREE)
    stage.live.start()
    (await stage.opened_so_far(1)).state = "done"
    second = await stage.opened_so_far(2)
    await stage.live.close()
    assert second.outcome is not None, "its session was ended"
    assert len(stage.opened) == 2
    rows = stage.file["rows"]
    assert [(row["name"], row["repeats"]) for row in rows] == [("rac", 1), ("rsc", 0)]
    assert rows[1]["reasons"] == ["ended before its end"]
    assert stage.live.run.exit_code == 0


async def test_what_cannot_start_does_not_keep_the_next_from_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"rac": done(200), "rsc": Outcome(4, "no port"), "baseline": done(1)})
    stage.refused, stage.by_itself = {"rac": "ray is not installed"}, True
    live = stage.live.start()
    await stage.until(lambda: live.run.picture().over)
    await live.close()
    assert stage.states == {"rac": "failed", "rsc": "failed", "baseline": "done"}
    reasons = {row["name"]: row["reasons"] for row in stage.file["rows"]}
    assert reasons == {"rac": ["ray is not installed"], "rsc": ["no port"], "baseline": []}
    assert live.run.exit_code == 0


async def test_the_reference_is_the_next_row_with_figures(tmp_path: Path) -> None:
    stage = Stage(tmp_path, THREE)
    live = stage.live.start()
    (await stage.opened_so_far(1)).state = "done"
    second = await stage.opened_so_far(2)
    assert live.next_reference() == "", "no other has figures"
    second.state = "done"
    await stage.opened_so_far(3)
    assert live.next_reference() == "rsc"
    assert stage.file["reference"] == "rsc"
    assert stage.file["rows"][0]["change_pct"]["ttft_ms"] == 100.0
    assert live.next_reference() == "rac"
    await live.close()


async def test_without_end_it_begins_again_and_keeps_the_newest(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"rac": done(200), "rsc": done(100)}, repeat=None)
    stage.by_itself = True
    live = stage.live.start()
    wanted = 2 * (KEPT_REPEATS + 2)
    await stage.until(lambda: len(stage.opened) > wanted)
    picture = live.run.picture()
    await live.close()
    assert picture.turns is None
    assert [score.repeats for score in picture.scores] == [KEPT_REPEATS, KEPT_REPEATS]
    assert len(live.run.results) == 2 * KEPT_REPEATS
    assert len(stage.file["order"]) == 2 * KEPT_REPEATS
    assert all(len(row["folders"]) == KEPT_REPEATS for row in stage.file["rows"])


async def test_a_mark_goes_to_the_session_and_a_rate_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path, THREE)
    live = stage.live.start()
    first = await stage.opened_so_far(1)
    live.send(Mark("now"))
    live.send(SetRate(9.0))
    assert first.sent == [Mark("now")]
    snapshot = live.snapshot()
    assert snapshot is not None
    assert snapshot.events[-1].text == REFUSED
    await live.close()


async def test_results_that_cannot_be_written_end_it(tmp_path: Path) -> None:
    (tmp_path / "showdown.json").mkdir()
    stage = Stage(tmp_path, THREE)
    stage.by_itself = True
    live = stage.live.start()
    await stage.until(lambda: live.run.picture().over)
    await live.close()
    assert live.error is not None
    assert "give --out a folder that can be written" in str(live.error)
    snapshot = live.snapshot()
    assert snapshot is not None
    assert snapshot.state == "crashed"


@pytest.mark.parametrize("closes", [1, 2])
async def test_it_can_be_left_before_its_first_session(tmp_path: Path, closes: int) -> None:
    stage = Stage(tmp_path, THREE)
    live = stage.live.start()
    for _ in range(closes):
        await live.close()
    assert stage.states["rsc"] == "wait"
    assert live.run.picture().over
