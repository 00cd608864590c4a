"""The load of a session goes to topologies that are started for it: beside the one before or in its place.

Topologies are mock servers here, started as a backend is; the session, its load and its log are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import CommandError, NextPhase, Pause, Resume, Retarget, Stop
from rvtop.contract.snapshot import StartStep
from rvtop.session import own_servers, switch
from rvtop.session.rate_control import Done
from rvtop.target.backend import BackendOptions
from rvtop.target.probe import TargetError
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess

PHASE = {"name": "a", "rate": 50, "duration": "10m", "drain": "120s", "arrivals": "poisson"}


class World:
    """``done`` is what was started and ended, in order; ``fails`` are topologies that don't start, which wait
    for ``go`` before."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fails: set[str] = set()
        self.go = asyncio.Event()
        self.go.set()
        self.mocks: list[MockProcess] = []


class MockBackend:
    """As ``rvtop.target.backend.Backend``, with a mock server in place of a topology."""

    world: World

    def __init__(self, options: BackendOptions, log: Path, on_step: Any) -> None:
        self._name, self._log, self._on_step = options.topology, log, on_step
        self._over = asyncio.Event()
        self._mock: MockProcess | None = None
        self.url, self.models = "", ()

    async def start(self) -> str:
        world = self.world
        world.done.append(f"start {self._name}")
        self._on_step(StartStep("weights", "run", 0.0))
        await world.go.wait()
        if self._name in world.fails:
            self._log.write_text("line 1\nout of memory\n")
            raise TargetError(f"{self._name} did not start: out of memory", 4)
        self._on_step(StartStep("weights", "done", 0.5))
        self._mock = await asyncio.to_thread(any_mock(ttft_ms=20, step_ms=2).start)
        world.mocks.append(self._mock)
        self.url, self.models = self._mock.url, ("mock",)
        world.done.append(f"ready {self._name}")
        return self.url

    async def wait(self) -> int:
        await self._over.wait()
        return 1

    def crash(self) -> None:
        assert self._mock is not None
        self._mock.stop()
        self._over.set()

    def log_tail(self, lines: int = 5) -> str:
        return "\n".join(self._log.read_text().splitlines()[-lines:]) if self._log.exists() else ""

    def kill(self) -> None:
        pass

    async def stop(self) -> None:
        self.world.done.append(f"end {self._name}")
        if self._mock is not None:
            await asyncio.to_thread(self._mock.stop)
        self._over.set()


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    world = World()
    monkeypatch.setattr(MockBackend, "world", world, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(own_servers, "Backend", MockBackend)
    yield world
    for mock in world.mocks:
        with contextlib.suppress(Exception):
            mock.stop()


def started(out: Path, **phase: Any) -> Watched:
    """A session on a topology of its own."""
    asked = request("", out, {**PHASE, **phase})
    watched = Watched(replace(asked, url=None, backend=BackendOptions("baseline")))
    switching = watched.session._switching
    switching._check, switching._room = lambda options: None, lambda: None
    return watched


async def done(answer: Done) -> Done:
    while answer.later is not None:
        answer = await answer.later
    return answer


async def ended(watched: Watched) -> list[dict[str, Any]]:
    """Stops it; its requests, of which none is lost or sent twice."""
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    rows = sorted(watched.rows(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(len(rows)))
    return rows


def commands(watched: Watched) -> list[str]:
    rows = watched.rows("commands.jsonl")
    return [row["cmd"] for row in rows if row["cmd"] in ("target", "pause", "resume", "phase")]


async def test_instead_of_the_one_before_the_load_pauses_and_goes_on_there(
    world: World, tmp_path: Path
) -> None:
    watched = started(tmp_path / "run", duration="6s")  # less than the switch may take: its clock stands
    await watched.until(lambda s: s.load.ok > 5, "the load")
    follow, before = watched.session.commands.follow, watched.now.target
    assert (before.topology, before.owned) == ("baseline", True)
    world.go.clear()
    answer = follow(Retarget(topology="rac"), "control")
    s = await watched.until(lambda s: s.switch and world.done[-1] == "start rac", "the start")
    assert s.switch.paused
    assert s.switch.what == "starts"
    assert s.switch.to == "rac"
    assert s.state == "paused"
    assert [(step.name, step.state) for step in s.steps] == [("weights", "run")]
    assert s.backend_log == "backend-2.log"
    assert world.done == ["start baseline", "ready baseline", "end baseline", "start rac"]
    for command in (Resume(), NextPhase()):
        with pytest.raises(CommandError, match="paused for the switch to rac"):
            follow(command, "keyboard")
    with pytest.raises(CommandError, match="on its way to another server already"):
        follow(Retarget(topology="rsc"), "keyboard")
    sent = watched.now.load.sent
    await asyncio.sleep(6.0)  # past the end that the phase had
    assert (watched.now.load.sent, watched.now.target_down_s) == (sent, None)
    world.go.set()
    assert (await done(answer)).inverse is None, "there is no server to go back to"
    s = await watched.until(lambda s: s.load.ok > sent + 5, "load there")
    assert (s.switch, s.state, s.target.topology, s.target.owned) == (None, "running", "rac", True)
    assert s.target.url == world.mocks[1].url != before.url
    assert s.standby == ()
    rows = await ended(watched)
    assert world.done[4:] == ["ready rac", "end rac"]
    assert {row["error"] for row in rows if row["phase"] == "a"} == {None}, (
        "what was in flight was waited for"
    )
    assert {row["phase"] for row in rows} == {"a", "a#target-2"}
    (target,) = json.loads((watched.out / "environment.json").read_text())["targets"]
    assert (target["url"], target["topology"], target["arguments"]) == (s.target.url, "rac", [])
    log = commands(watched)
    assert log[:2] == ["phase", "pause"]
    assert log[-1] == "resume"
    assert "target" in log


async def test_beside_the_one_before_the_load_goes_on_meanwhile(world: World, tmp_path: Path) -> None:
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    follow, before = watched.session.commands.follow, watched.now.target
    world.go.clear()
    answer = follow(Retarget(topology="rac", place="beside"), "control")
    await watched.until(lambda s: s.switch and s.switch.what == "starts", "the start")
    ok = watched.now.load.ok
    await watched.until(lambda s: s.load.ok > ok + 20, "load against the one before")
    world.go.set()
    await done(answer)
    s = watched.now
    assert s.target.topology == "rac"
    assert [(one.url, one.topology) for one in s.standby] == [(before.url, "baseline")]
    assert "pause" not in commands(watched)
    # Back to the one that is up: nothing is started.
    await done(follow(Retarget(topology="baseline"), "control"))
    assert watched.now.target.url == before.url
    assert watched.now.backend_log == "backend.log"
    assert world.done == ["start baseline", "ready baseline", "start rac", "ready rac"]
    # The third one does not keep the one before.
    await done(follow(Retarget(topology="rsc", place="beside", keep=False), "control"))
    assert [one.topology for one in watched.now.standby] == ["rac"]
    live = watched.session._load.live  # a stop cancels whatever is in flight, also there
    await watched.until(lambda s: not any(map(live.in_flight_at, range(3))), "the answers of before")
    rows = await ended(watched)
    assert sorted(world.done[-2:]) == ["end rac", "end rsc"], "all that we started is ended"
    assert {row["error"] for row in rows if row.get("target", 0) < 3} == {None}
    assert [row["target"] for row in rows if "target" in row][-1] == 3


@pytest.mark.parametrize("pause", [False, True])
async def test_a_failed_start_leaves_the_load_with_the_one_before(
    world: World, tmp_path: Path, pause: bool
) -> None:
    world.fails.add("rac")
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    before = watched.now.target
    answer = watched.session.commands.follow(Retarget(topology="rac", place="beside", pause=pause), "control")
    with pytest.raises(CommandError, match="retarget: rac did not start: out of memory"):
        await done(answer)
    s = watched.now
    assert s.steps[-1].log == ("line 1", "out of memory")
    assert (s.target, s.switch) == (before, None)
    await watched.until(lambda s, ok=s.load.ok: s.load.ok > ok + 10, "load goes on")
    await ended(watched)
    assert ("resume" in commands(watched)) == pause
    assert world.done[-1] == "end baseline"


async def test_where_no_server_is_left_the_load_waits_for_another_choice(
    world: World, tmp_path: Path
) -> None:
    world.fails.add("rac")
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    follow = watched.session.commands.follow
    with pytest.raises(CommandError, match="out of memory"):
        await done(follow(Retarget(topology="rac", place="instead"), "control"))
    s = watched.now
    assert s.switch is not None
    assert s.switch.waits
    assert s.switch.paused
    assert s.state == "paused"
    assert any("the load waits; t chooses a server" in event.text for event in s.events)
    assert world.done[-2:] == ["end baseline", "start rac"]
    with any_mock(ttft_ms=20, step_ms=2) as other:
        await done(follow(Retarget(other.url), "control"))
        s = await watched.until(lambda s, ok=s.load.ok: s.load.ok > ok + 5, "load there")
        assert (s.switch, s.target.owned, s.target.url) == (None, False, other.url)
        await ended(watched)


async def test_a_server_that_is_not_ours_is_never_ended(world: World, tmp_path: Path) -> None:
    with any_mock(ttft_ms=20, step_ms=2) as theirs:
        watched = Watched(request(theirs.url, tmp_path / "run", PHASE))
        watched.session._switching._check = lambda options: None
        await watched.until(lambda s: s.load.ok > 5, "the load")
        await done(watched.session.commands.follow(Retarget(topology="rac", place="instead"), "control"))
        assert "pause" not in commands(watched)
        await done(watched.session.commands.follow(Retarget(theirs.url), "control"))
        await watched.until(lambda s, ok=watched.now.load.ok: s.load.ok > ok + 5, "load goes on there")
        await ended(watched)
    assert world.done == ["start rac", "ready rac", "end rac"]


async def test_a_pause_by_hand_is_not_taken_back(world: World, tmp_path: Path) -> None:
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    follow = watched.session.commands.follow
    follow(Pause(), "keyboard")
    await done(follow(Retarget(topology="rac"), "keyboard"))
    assert watched.now.state == "paused"
    follow(Resume(), "keyboard")
    await watched.until(lambda s, ok=watched.now.load.ok: s.load.ok > ok + 5, "load there")
    await ended(watched)


async def test_the_end_of_one_that_stands_by_is_said(world: World, tmp_path: Path) -> None:
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    before = watched.session._target.own
    await done(watched.session.commands.follow(Retarget(topology="rac", place="beside"), "control"))
    assert before is not None
    before.backend.crash()  # type: ignore[attr-defined]
    await watched.until(lambda s: not s.standby, "its end")
    assert any("baseline at" in event.text for event in watched.now.events)
    await ended(watched)


async def test_what_makes_no_sense_is_refused(world: World, tmp_path: Path) -> None:
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    follow = watched.session.commands.follow
    for command, says in (
        (Retarget(), "needs either url or topology"),
        (Retarget("http://a", topology="rac"), "needs either url or topology"),
        (Retarget(topology="abc"), "topology abc: unknown; known are: baseline, rac"),
    ):
        with pytest.raises(CommandError, match=says):
            follow(command, "control")

    def refuse(options: BackendOptions) -> None:
        raise TargetError(f"{options.arguments[0]}: unknown", 2)

    watched.session._switching._check = refuse
    with pytest.raises(CommandError, match="retarget: --gups: unknown"):
        await done(follow(Retarget(topology="rac", arguments=("--gups",)), "control"))
    assert watched.now.switch is None
    assert world.done == ["start baseline", "ready baseline"], "nothing was ended for it"
    await ended(watched)


@pytest.mark.parametrize(
    ("used", "free"), [((90.0, 1.0), 1), ((90.0, 80.0), 0), (None, None)], ids=["one", "none", "no GPU"]
)
def test_room_is_a_gpu_that_nobody_uses(
    monkeypatch: pytest.MonkeyPatch, used: tuple[float, ...] | None, free: int | None
) -> None:
    from rvtop.doctor.gpus import Gpus

    found = None if used is None else Gpus("1", (13, 0), ("H200",) * 2, (141.0,) * 2, used)
    monkeypatch.setattr(switch, "probe_gpus", lambda: (found, ""))
    assert switch.free_gpus() == free


@pytest.mark.parametrize("place", ["beside", "instead"])
async def test_a_stop_ends_a_start_that_is_under_way(world: World, tmp_path: Path, place: Any) -> None:
    watched = started(tmp_path / "run")
    await watched.until(lambda s: s.load.ok > 5, "the load")
    world.go.clear()
    watched.session.commands.follow(Retarget(topology="rac", place=place), "control")
    await watched.until(lambda s: s.switch and s.switch.what == "starts", "the start")
    rows = await ended(watched)
    assert {row.get("target", 0) for row in rows} == {0}
    assert sorted(world.done[2:]) == ["end baseline", "start rac"]
    assert not any("did not start" in event.text for event in watched.now.events)
    assert [one for one in watched.now.standby if one.topology == "rac"] == []
