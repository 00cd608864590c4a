"""A recording of scenario and hands, played again: the same intended times; its file, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rvtop.contract.command import Cancel, CommandError, Mark, NextPhase, Pause, Record, Resume, SetRate, Stop
from rvtop.load.plan.schedule import PhasePlan, PlanEvent, Schedule
from rvtop.scenario.load import load_scenario, scenario_from
from rvtop.scenario.schema import Scenario
from rvtop.session.played import Played
from rvtop.session.player import Player, plan
from rvtop.session.rate_control import RateControl
from rvtop.ui.screens.recording_name import file_named
from tests.faults.sessions import WORKLOAD, Watched, request
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess

S = 1_000_000_000
STEP_NS = 7_300_001  # the loop wakes at no round time


def scenario(*phases: dict[str, Any]) -> Scenario:
    data = {"name": "x", "seed": 11, "workload": WORKLOAD, "phases": list(phases)}
    return scenario_from(data, "test")


class Virtual:
    """A load in virtual time: player, commands and one worker's schedule; answers take ``answer_s``."""

    def __init__(self, phases: tuple[PhasePlan, ...], seed: int, answer_s: float) -> None:
        self.player = Player(phases)
        self.control = RateControl(phases, None, self.issue, lambda text, level="info", kind="note": None)
        self.played = Played()
        self.now_ns = 3 * S
        self.intended: list[int] = []
        self.undo: list[Any] = []
        self._schedule = Schedule(phases, seed, 0, 1)
        self._entries: list[PlanEvent] = []
        self._answer_ns = round(answer_s * 1e9)

    def issue(self, entry: PlanEvent, by: str = "scenario") -> None:
        self.control.note(entry)
        self.played.note(entry, self.player.phases)
        self._entries.append(entry)

    def send(self, command: Any) -> None:
        """Follows a command as the session does."""
        if isinstance(command, NextPhase):
            if command.to == "again":
                copy = self.player.repeat()
                self.control.add_phase(copy)
                self._schedule.course.add_phase(copy)
            entry = self.player.end_phase(self.now_ns)
            assert entry is not None
            self.issue(entry)
            return
        done = self.control.follow(command, self.now_ns, "keyboard")
        self.undo.append(done.inverse)

    def play(self, *script: tuple[float, Callable[[], None]]) -> list[int]:
        """Plays to the end with ``script`` (seconds from the start); all intended times."""
        begun, left = self.now_ns, list(script)
        while self.player.state != "over":
            self.now_ns += STEP_NS
            while left and (self.now_ns - begun) / 1e9 >= left[0][0]:
                left.pop(0)[1]()
            self.control.take_effect(self.now_ns)
            while self._entries and self._entries[0].at_ns <= self.now_ns:
                entry = self._entries.pop(0)
                self._take(entry.at_ns - 1)
                self._schedule.apply(entry)
            self._take(self.now_ns)
            course = self._schedule.course
            over = course.phase == self.player.index and self._schedule.exhausted(self.now_ns)
            last_ns = max(course.end_ns, self.intended[-1] if self.intended else 0)
            entry_due = self.player.step(self.now_ns, over and self.now_ns >= last_ns + self._answer_ns)
            if entry_due is not None:
                self.issue(entry_due)
        assert not left
        return self.intended

    def _take(self, until_ns: int) -> None:
        self.intended += [due.intended_ns for due in self._schedule.due(until_ns)]


def hands(load: Virtual) -> list[tuple[float, Callable[[], None]]]:
    """Rate changes in a constant phase, a ramp, a spike; pauses, next, again and undo."""

    def send(command: Any) -> Callable[[], None]:
        return lambda: load.send(command)

    return [
        (2.0, send(SetRate(40.0))),
        (3.1, send(SetRate(7.0))),
        (4.0, lambda: load.send(load.undo.pop())),
        (4.6, send(Pause())),
        (4.9, send(SetRate(25.0))),
        (5.3, send(Resume())),
        (12.0, send(Pause())),  # in the ramp
        (13.5, send(Resume())),  # which goes on as it was planned
        (16.2, send(NextPhase())),  # before its end
        (18.0, send(NextPhase("again"))),  # the spike, before its peak
        (21.0, send(SetRate(90.0))),
    ]


def ramps(load: Virtual) -> list[tuple[float, Callable[[], None]]]:
    """Ramps and spikes by hand, some of them cut short, paused, within each other or given back."""

    def send(command: Any) -> Callable[[], None]:
        return lambda: load.send(command)

    return [
        (0.5, send(SetRate(60.0, over_s=2.0))),
        (1.2, send(Pause())),
        (1.7, send(Resume())),  # into the ramp, which went on
        (3.1, send(SetRate(90.0, for_s=0.4))),
        (3.9, send(SetRate(5.0, over_s=1.5, shape="exponential"))),
        (4.3, send(SetRate(70.0, for_s=0.5))),  # on a ramp, which goes on behind it
        (9.0, send(SetRate(80.0, for_s=1.0))),  # on the scenario's own ramp
        (9.4, send(SetRate(120.0, for_s=0.2))),  # within a spike
        (12.0, send(SetRate(99.0, for_s=3.0))),
        (12.5, send(Pause())),
        (13.0, send(Resume())),
        (13.5, lambda: load.send(load.undo.pop(-3))),
        (15.0, send(SetRate(30.0, for_s=60.0))),  # the phase ends before
    ]


PHASES = (
    {"name": "hold", "rate": 20, "duration": "6s", "arrivals": "poisson"},
    {
        "name": "climb",
        "rate": {"from": 5, "to": 60},
        "duration": "12s",
        "arrivals": "gamma",
        "burstiness": 0.5,
    },
    {
        "name": "peak",
        "rate": {"from": 10, "to": 80, "shape": "spike", "at": "3s", "for": "1s"},
        "duration": "6s",
    },
    {"name": "burst", "rounds": {"sizes": [5, 1]}},
    {"name": "rest", "rate": 15, "duration": "4s", "arrivals": "poisson"},
)


def written(base: Scenario, phases: Any) -> Scenario:
    """What is read of the file that is written."""
    made = base.model_copy(update={"phases": phases})
    return scenario_from(yaml.safe_load(made.to_yaml()), "recording")


def again(recorded: Scenario, answer_s: float) -> list[int]:
    return Virtual(plan(recorded, 1), recorded.seed, answer_s).play()


def relative(times: list[int], origin_ns: int) -> list[float]:
    return [(at - origin_ns) / 1e3 for at in times]


def test_ramps_and_spikes_by_hand_are_repeated() -> None:
    base = scenario(*PHASES)
    load = Virtual(plan(base, 1), base.seed, 0.4)
    times = load.play(*ramps(load))
    recorded = written(base, load.played.phases(0, load.now_ns))
    repeated = again(recorded, 0.4)
    assert len(repeated) == len(times) > 500
    assert relative(repeated, repeated[0]) == pytest.approx(relative(times, times[0]), abs=1.0)
    twice = Virtual(plan(recorded, 1), base.seed, 0.2)  # with a pause in what was recorded
    times = twice.play((1.0, lambda: twice.send(Pause())), (1.5, lambda: twice.send(Resume())))
    repeated = again(written(recorded, twice.played.phases(0, twice.now_ns)), 0.1)
    assert relative(repeated, repeated[0]) == pytest.approx(relative(times, times[0]), abs=1.0)


def rates(load: Virtual, *script: tuple[float, Any]) -> list[float]:
    """The rate asked for in the middle of each second, while ``script`` sends commands or calls."""
    seen: list[float] = []

    def look() -> None:
        seen.append(load.control.target_rps(load.now_ns))

    for second in range(8):
        script += ((second + 0.5, look),)

    def do(command: Any) -> Callable[[], None]:
        return command if callable(command) else lambda: load.send(command)

    load.play(*((at, do(command)) for at, command in sorted(script, key=lambda step: step[0])))
    return seen


def steady() -> Virtual:
    base = scenario({"name": "hold", "rate": 20, "duration": "8s"})
    return Virtual(plan(base, 1), base.seed, 0.4)


def test_a_ramp_leads_to_its_rate_and_a_spike_goes_back() -> None:
    assert rates(steady(), (1.0, SetRate(60.0, over_s=4.0))) == pytest.approx(
        [20, 25, 35, 45, 55, 60, 60, 60], abs=1.0
    )
    assert rates(steady(), (1.0, SetRate(90.0, for_s=2.0))) == [20, 90, 90, 20, 20, 20, 20, 20]


def test_a_rate_within_a_spike_stands_and_ends_it() -> None:
    spike = SetRate(90.0, for_s=4.0)
    assert rates(steady(), (1.0, spike), (2.0, SetRate(7.0))) == [20, 90, 7, 7, 7, 7, 7, 7]


def test_what_goes_on_in_a_phase_that_begins_anew_elsewhere() -> None:
    """As after a switch to another server: a ramp goes on, and a spike ends when it was to end."""
    for command, wanted in (
        (SetRate(60.0, over_s=4.0), [20, 25, 35, 45, 55, 60, 60, 60]),
        (SetRate(90.0, for_s=3.0), [20, 90, 90, 90, 20, 20, 20, 20]),
    ):
        load = steady()

        def go_over(load: Virtual = load) -> None:
            carry = load.control.carry_over()
            copy = load.player.repeat("target")
            load.control.add_phase(copy)
            load._schedule.course.add_phase(copy)
            entry = load.player.begin_next(load.now_ns)
            load.issue(entry)
            carry(entry.at_ns, "keyboard")

        assert rates(load, (1.0, command), (2.0, go_over)) == pytest.approx(wanted, abs=1.0)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (
            SetRate(5.0, over_s=1.0, for_s=1.0),
            "rate: over_s (a ramp) and for_s (a spike) are two things; give one",
        ),
        (SetRate(5.0, over_s=0.0), "rate: over_s must be more than 0 s and at most 86400 s"),
        (SetRate(5.0, for_s=1e6), "rate: for_s must be more than 0 s and at most 86400 s"),
        (SetRate(5.0, shape="exponential"), "rate: shape is that of a ramp; it needs over_s"),
        (
            SetRate(0.0, over_s=5.0, shape="exponential"),
            "rate: an exponential ramp needs rates above 0 at both ends; linear takes any",
        ),
    ],
)
def test_ramps_and_spikes_that_make_no_sense_are_refused(command: SetRate, why: str) -> None:
    load = steady()
    load.play((1.0, lambda: None))
    with pytest.raises(CommandError) as refused:
        load.send(command)
    assert str(refused.value) == why


@pytest.mark.parametrize("answer_s", [0.05, 0.4])
def test_the_same_times_to_the_microsecond(answer_s: float) -> None:
    base = scenario(*PHASES)
    load = Virtual(plan(base, 1), base.seed, 0.4)
    times = load.play(*hands(load))
    recorded = written(base, load.played.phases(0, load.now_ns))
    names = ["hold", "climb", "peak", "peak-again-2", "burst-n=5-1", "burst-n=1-1", "rest"]
    assert [phase.name for phase in recorded.phases] == names
    repeated = again(recorded, answer_s)  # also on a server that is faster
    assert len(repeated) == len(times) > 500
    assert relative(repeated, repeated[0]) == pytest.approx(relative(times, times[0]), abs=1.0)


def test_a_recording_of_a_replay_with_hands_is_the_same_again() -> None:
    base = scenario(*PHASES)
    first = Virtual(plan(base, 1), base.seed, 0.4)
    first.play(*hands(first))
    recorded = written(base, first.played.phases(0, first.now_ns))
    load = Virtual(plan(recorded, 1), base.seed, 0.2)
    more = [(1.5, lambda: load.send(Pause())), (1.8, lambda: load.send(Resume()))]
    times = load.play(*more)
    repeated = again(written(recorded, load.played.phases(0, load.now_ns)), 0.1)
    assert relative(repeated, repeated[0]) == pytest.approx(relative(times, times[0]), abs=1.0)


def test_a_recording_that_begins_and_ends_in_the_middle_of_phases() -> None:
    base = scenario(*PHASES)
    load = Virtual(plan(base, 1), base.seed, 0.4)
    times = load.play(*hands(load))
    from_ns, until_ns = 3 * S + 10_123_456_789, 3 * S + 19_500_000_000
    recorded = written(base, load.played.phases(from_ns, until_ns))
    assert [phase.name for phase in recorded.phases] == ["climb", "peak", "peak-again-2"]
    wanted = [at for at in times if from_ns <= at < until_ns]
    repeated = again(recorded, 0.1)
    assert len(repeated) == len(wanted) > 100
    begun_ns = repeated[0] - (wanted[0] - from_ns)
    assert relative(repeated, begun_ns) == pytest.approx(relative(wanted, from_ns), abs=1.0)


def test_nothing_played_is_no_recording() -> None:
    base = scenario(*PHASES)
    load = Virtual(plan(base, 1), base.seed, 0.4)
    assert load.played.phases(0, 10**18) == ()
    load.play()
    assert load.played.phases(load.now_ns, load.now_ns + S) == ()


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=10, step_ms=2, tokens=4) as running:
        yield running


async def test_a_session_is_recorded(mock: MockProcess, tmp_path: Path) -> None:
    phase = {"name": "a", "rate": 20, "duration": "10m", "arrivals": "poisson"}
    watched = Watched(request(mock.url, tmp_path / "run", phase))
    await watched.until(lambda s: s.load.ok, "the load")
    follow, file = watched.session.commands.follow, tmp_path / "mine.yaml"
    with pytest.raises(CommandError, match="nothing is being recorded"):
        follow(Record(on=False), "control")
    with pytest.raises(CommandError, match=r"absent is no folder; make it first$"):
        follow(Record(file=str(tmp_path / "absent" / "x.yaml")), "control")
    assert watched.now.recording_s is None
    assert follow(Record(), "control").text == f"recording to {tmp_path}/run/recording.yaml"
    with pytest.raises(CommandError, match="recorded already"):
        follow(Record(), "control")
    follow(SetRate(50.0), "control")
    follow(Mark("cache cleared"), "control")
    follow(Cancel(), "control")
    seen = await watched.until(lambda s: s.recording_s and s.recording_s > 2, "two seconds of recording")
    assert seen.recording_unnamed
    partial = tmp_path / "run" / "recording.yaml.partial"  # what a kill -9 would leave
    assert [change.rate for change in load_scenario(partial).phases[0].changes] == [50.0]
    file.write_text("mine")
    with pytest.raises(CommandError, match="is there already; give another name"):
        follow(Record(on=False, file=str(file)), "control")
    file.unlink()
    assert follow(Record(on=False, file=str(tmp_path / "mine")), "control").text == f"recorded: {file}"
    assert not partial.exists()
    assert watched.now.recording_s is None
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0

    (played,) = load_scenario(file).phases
    assert played.offset_s > 0
    assert played.marks[0].note == "cache cleared"
    assert played.marks[1].note.endswith("requests in flight are cancelled")
    assert [row["on"] for row in watched.rows("commands.jsonl") if row["cmd"] == "record"] == [True, False]


async def test_a_session_that_ends_keeps_its_recording(mock: MockProcess, tmp_path: Path) -> None:
    phase = {"name": "a", "rate": 20, "duration": "1s"}
    wanted = request(mock.url, tmp_path / "run", phase, record=tmp_path / "all.yaml")
    assert (await Watched(wanted).end()).exit_code == 0
    (played,) = load_scenario(tmp_path / "all.yaml").phases
    assert (played.offset_s, played.duration_s, played.changes) == (0.0, 1.0, ())
    assert list(tmp_path.glob("*.partial")) == []


async def test_a_recording_that_can_not_be_written_is_told_before_anything_starts(tmp_path: Path) -> None:
    phase = {"name": "a", "rate": 20, "duration": "1s"}
    wanted = request("http://127.0.0.1:9", tmp_path / "run", phase, record=tmp_path / "no" / "all.yaml")
    outcome = await Watched(wanted).end()
    assert outcome.exit_code == 2
    assert (
        outcome.message
        == f"record: {tmp_path}/no/all.yaml: can't be written: {tmp_path}/no is no folder; make it first"
    )


async def test_a_start_that_fails_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    phase = {"name": "a", "rate": 20, "duration": "1s"}
    for _ in range(2):
        wanted = request("http://127.0.0.1:9", tmp_path / "run", phase, record=tmp_path / "all.yaml")
        outcome = await Watched(wanted).end()
        assert "127.0.0.1:9" in outcome.message
        assert list(tmp_path.glob("all*")) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("~nobody-of-this-name/x", "no such user; give another name"),
        ("/", "no name of a file; give another name"),
        ("x" * 300, "File name too long; give another name"),
    ],
)
async def test_names_that_can_not_be_are_one_line(
    mock: MockProcess, tmp_path: Path, name: str, why: str
) -> None:
    with pytest.raises(ValueError, match=f"{why}$"):
        file_named(name)
    phase = {"name": "a", "rate": 20, "duration": "10m"}
    watched = Watched(request(mock.url, tmp_path / "run", phase))
    await watched.until(lambda s: s.load.ok, "the load")
    follow = watched.session.commands.follow
    with pytest.raises(CommandError, match=f"{why}$"):
        follow(Record(file=name), "control")
    follow(Record(), "control")
    await watched.until(lambda s: s.load.ok > 5, "more load")
    with pytest.raises(CommandError, match=f"{why}$"):
        follow(Record(on=False, file=name), "control")
    follow(Record(on=False), "control")
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0
