"""What commands do to a session that runs, what takes them back, and what the run folder says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import (
    COMMANDS,
    Command,
    CommandError,
    Mark,
    NextPhase,
    Pause,
    Resume,
    SetRate,
    Stop,
    Undo,
)
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.session.player import LEAD_NS, Player
from rvtop.session.rate_control import RateControl
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess

S = 1_000_000_000


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=10, step_ms=2, tokens=4) as running:
        yield running


def rows(watched: Watched, *names: str) -> list[dict[str, Any]]:
    return [row for row in watched.rows("commands.jsonl") if row["cmd"] in names]


async def test_commands_are_followed_taken_back_and_written_down(mock: MockProcess, tmp_path: Path) -> None:
    phase = {"name": "a", "rate": 20, "duration": "10m"}
    watched = Watched(request(mock.url, tmp_path / "run", phase))
    await watched.until(lambda s: s.load.ok, "the load")
    follow = watched.session.commands.follow
    assert set(watched.session.commands.names) == set(COMMANDS)
    with pytest.raises(CommandError, match="nothing to undo"):
        follow(Undo(), "control")
    with pytest.raises(CommandError, match="needs a note"):
        follow(Mark("  "), "control")

    assert follow(SetRate(40.0), "control").text == "rate 20 → 40 rps"
    follow(Pause(), "keyboard")
    assert watched.now.state == "paused"
    assert follow(SetRate(60.0), "control").text == "rate 0 → 60 rps"
    assert follow(Undo(), "control").text == "undone: rate: rate 0 → 40 rps"
    assert follow(Undo(), "control").text == "undone: pause: resumed"
    assert follow(Undo(), "control").text == "undone: rate: rate 40 → 20 rps"
    with pytest.raises(CommandError, match="nothing to undo"):
        follow(Undo(), "control")
    follow(Mark("here\x1b[2J"), "control")
    for rps in range(25):
        follow(SetRate(float(rps)), "keyboard")
    for _ in range(20):
        follow(Undo(), "control")
    with pytest.raises(CommandError, match="nothing to undo"):
        follow(Undo(), "control")
    assert watched.now.load.target_rps == 4.0
    watched.send(Stop())
    with pytest.raises(CommandError, match="the run is ending"):
        follow(SetRate(1.0), "control")
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message

    first = rows(watched, "rate", "pause", "resume", "undo", "mark")[:10]
    assert [(row["cmd"], row.get("value"), row["by"]) for row in first] == [
        ("rate", 40.0, "control"),
        ("pause", None, "keyboard"),
        ("rate", 60.0, "control"),
        ("rate", 40.0, "control"),
        ("undo", None, "control"),
        ("resume", None, "control"),
        ("undo", None, "control"),
        ("rate", 20.0, "control"),
        ("undo", None, "control"),
        ("mark", None, "control"),
    ]
    assert [row["of"] for row in first if row["cmd"] == "undo"] == ["rate", "pause", "rate"]
    assert first[-1]["note"] == "here\\x1b[2J"
    assert [row["by"] for row in rows(watched, "stop")] == ["keyboard"]
    events = watched.rows("events.jsonl")
    assert [e["kind"] for e in events if e["kind"] in ("phase", "rate", "pause")][:3] == [
        "phase",
        "rate",
        "pause",
    ]
    assert [e["text"] for e in events if e["kind"] == "mark"] == ["here\\x1b[2J"]
    assert [e["t_s"] for e in events] == sorted(e["t_s"] for e in events)


async def test_a_phase_is_played_again_and_what_followed_follows(mock: MockProcess, tmp_path: Path) -> None:
    phases = [
        {"name": "a", "rate": 50, "duration": "10m", "drain": "5s"},
        {"name": "b", "rate": 50, "duration": "300ms"},
    ]
    watched = Watched(request(mock.url, tmp_path / "run", *phases))
    await watched.until(lambda s: s.load.ok, "the load")
    follow = watched.session.commands.follow
    follow(SetRate(30.0), "control")
    assert follow(NextPhase("again"), "control").text == "phase a ends, and begins again"
    await watched.until(lambda s: s.phase and s.phase.name == "a#again-2", "the phase again")
    await watched.until(lambda s: s.load.target_rps == 50.0, "the planned rate")
    with pytest.raises(CommandError, match="nothing to undo"):  # the rate went with its phase
        follow(Undo(), "control")
    before = watched.now.load.ok
    await watched.until(lambda s: s.load.ok > before + 5, "its load")
    assert follow(NextPhase(), "control").text == "phase a, 2nd time ends"
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    assert [phase["name"] for phase in outcome.summary["phases"]] == ["a", "a#again-2", "b"]
    assert all(phase["requests"]["ok"] for phase in outcome.summary["phases"])
    assert [row["by"] for row in rows(watched, "end")] == ["control", "control"]
    with pytest.raises(CommandError, match="the load is over"):
        follow(SetRate(1.0), "control")


async def test_what_a_key_cannot_do_is_an_event(mock: MockProcess, tmp_path: Path) -> None:
    watched = Watched(request(mock.url, tmp_path / "run", {"name": "a", "rate": 20, "duration": "10m"}))
    watched.send(SetRate(5.0))
    assert [(e.text, e.level, e.kind) for e in watched.now.events] == [
        ("the load has not begun", "warn", "command")
    ]
    await watched.until(lambda s: s.load.ok, "the load")
    watched.send(SetRate(math.nan))
    assert watched.now.events[-1].text == "rate: must be a number of requests a second, 0 or more"
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0
    texts = [event["text"] for event in watched.rows("events.jsonl")]
    assert texts[0] == "the load has not begun"  # it came before there was a folder


class Control(RateControl):
    """Rates of a made-up phase; what goes out comes back at once."""

    def __init__(self, *phases: PhasePlan, most: float | None = None) -> None:
        self.sent: list[tuple[PlanEvent, str]] = []
        super().__init__(phases, most, self.issue, lambda text, level="info", kind="note": None)
        self.note(PlanEvent(0, "phase", 0))
        self.take_effect(0)

    def issue(self, entry: PlanEvent, by: str) -> None:
        self.sent.append((entry, by))
        self.note(entry)

    def at(self, command: Command, now_ns: int) -> Command | None:
        """Follows a command; what takes it back."""
        done = self.follow(command, now_ns, "control")
        assert done.at_ns == now_ns + LEAD_NS
        entry, by = self.sent[-1]
        assert (entry.at_ns, by) == (done.at_ns, "control")
        self.take_effect(done.at_ns)
        return done.inverse


def test_a_rate_in_a_ramp_is_taken_back_to_the_rate_that_was_planned_then() -> None:
    control = Control(PhasePlan("climb", 0.0, 100.0, 100.0))
    assert control.at(SetRate(80.0), 10 * S) == SetRate(10.0)
    assert control.at(SetRate(90.0), 20 * S) == SetRate(80.0)
    assert control.at(Pause(), 30 * S) == Resume()
    assert control.at(SetRate(5.0), 40 * S) == SetRate(90.0)  # not the 0 of the pause
    with pytest.raises(CommandError, match="paused already"):
        control.at(Pause(), 50 * S)
    assert control.at(Resume(), 50 * S) == Pause()
    assert control.target_rps(60 * S) == 5.0
    with pytest.raises(CommandError, match="not paused"):
        control.at(Resume(), 60 * S)


def test_what_was_commanded_shows_before_it_takes_effect() -> None:
    control = Control(PhasePlan("a", 10.0, 10.0))
    control.at(SetRate(40.0), 10 * S)
    control.follow(Pause(), 20 * S, "control")
    assert control.target_rps(20 * S) == 0.0
    control.take_effect(21 * S)
    control.follow(Resume(), 30 * S, "control")
    assert control.target_rps(30 * S) == 40.0
    done = control.follow(SetRate(10.0), 30 * S, "control")
    assert done.text == "rate 40 → 10 rps"


def test_more_than_max_rate_becomes_max_rate_and_says_so() -> None:
    control = Control(PhasePlan("a", 1.0, 1.0), most=64.0)
    done = control.follow(SetRate(math.inf), 0, "control")
    assert done.text == "rate 1 → 64 rps (the most that is allowed)"
    for wrong in (math.nan, -5.0, -math.inf):
        with pytest.raises(CommandError, match="must be a number of requests a second, 0 or more"):
            control.follow(SetRate(wrong), 0, "control")


def test_a_phase_may_be_repeated_more_than_once() -> None:
    player = Player((PhasePlan("a", 1.0, 1.0, 10.0), PhasePlan("b", 1.0, 1.0, 10.0)))
    names, now = [], 0
    for _ in range(5):
        entry = player.step(now, drained=True)
        if entry is None:
            break
        assert entry.kind == "phase"
        names.append(player.phases[int(entry.value)].name)
        if len(names) in (1, 2):
            player.repeat()
        now = player.end_ns
        player.step(now, drained=False)
    assert names == ["a", "a#again-2", "a#again-3", "b"]
    assert player.state == "over"
    assert player.phase is None
