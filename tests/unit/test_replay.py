"""A stored run: any second of it is the picture that the screen showed then, at any speed, from any place."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rvtop.cli import dashboard
from rvtop.contract.run_files import SCREEN
from rvtop.contract.snapshot import Event, Load, Phase, Series, Snapshot, Target
from rvtop.errors import UserError
from rvtop.results.recording import read_recording
from rvtop.results.screen_log import ScreenCompressor
from rvtop.session.replay import SPEEDS, ReplaySession

LENGTH = 700  # more than a snapshot's history holds


def snapshots() -> list[Snapshot]:
    names = [f.name for f in fields(Series)]
    columns: dict[str, tuple[float | None, ...]] = dict.fromkeys(names, ())
    found: list[Snapshot] = []
    events: tuple[Event, ...] = ()
    for t in range(LENGTH):
        columns = {name: (*columns[name], float(t) if name == "t_s" else t * 2.0)[-600:] for name in names}
        if t % 100 == 50:
            events = (*events, Event(1e9 + t, f"at {t}", kind="mark", t_s=float(t)))
        found.append(
            Snapshot(
                seq=t,
                t_s=float(t),
                unix_s=1e9 + t,
                state="running" if t < LENGTH - 1 else "done",
                name="long",
                target=Target("mock", "http://x", ("m",)),
                phase=Phase("climb", 0, 2, t, 300) if t < 300 else Phase("hold", 1, 2, t - 300, 400),
                load=Load(sent=t * 3),
                series=Series(**columns),
                events=events,
            )
        )
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Snapshot]]:
    folder, made, packer = tmp_path_factory.mktemp("run"), snapshots(), ScreenCompressor()
    (folder / SCREEN).write_bytes(b"".join(map(packer.add, made)) + packer.end())
    return folder, made


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_what_the_screen_showed(stored: tuple[Path, list[Snapshot]]) -> None:
    folder, made = stored
    recording = read_recording(folder)
    assert (len(recording), recording.notes) == (LENGTH, [])
    for index in [0, 1, LENGTH - 1, *random.Random(3).sample(range(LENGTH), 40)]:
        assert recording.at(index) == made[index]
    assert recording.phases == ((0.0, "climb"), (300.0, "hold"))
    assert [event.text for event in recording.events][:2] == ["at 50", "at 150"]
    assert recording.series.t_s == tuple(map(float, range(LENGTH)))


def test_a_history_that_begins_anew_does_not_change_what_was_before_it(tmp_path: Path) -> None:
    made = snapshots()[:5]
    other = replace(made[4], t_s=9.0, series=Series(t_s=(8.5, 9.0), target_rps=(7.0, 7.0)))
    packer = ScreenCompressor()
    (tmp_path / SCREEN).write_bytes(b"".join(map(packer.add, [*made, other])))
    recording = read_recording(tmp_path)
    assert recording.at(3) == made[3]
    assert recording.at(5).series.target_rps == (7.0, 7.0)


def test_it_plays_pauses_seeks_and_changes_its_speed(stored: tuple[Path, list[Snapshot]]) -> None:
    folder, made = stored
    clock = Clock()
    replay = ReplaySession(read_recording(folder), str(folder), clock)

    def shown() -> float:
        snapshot = replay.snapshot()
        assert snapshot is not None
        assert replace(snapshot, seq=0) == replace(made[int(snapshot.t_s)], seq=0)
        return snapshot.t_s

    seen = replay.snapshot()
    clock.now += 0.9
    assert replay.snapshot() is seen, "the same picture until the next second"
    clock.now += 9.6
    assert (shown(), replay.playing) == (10.0, True)
    assert replay.change_speed(+2)
    clock.now += 10
    assert (shown(), replay.speed) == (50.0, 4.0)
    replay.toggle()
    clock.now += 1000
    assert (shown(), replay.playing) == (50.0, False)
    replay.step(-1)
    assert shown() == 49.0
    replay.seek(650.2)
    assert shown() == 650.0
    replay.seek(-5)
    assert shown() == 0.0
    replay.seek(1e9)
    assert (shown(), replay.playing) == (LENGTH - 1.0, False)
    replay.toggle()
    assert (shown(), replay.playing) == (0.0, True), "at its end it begins anew"
    while replay.change_speed(+1):
        pass
    assert replay.speed == SPEEDS[-1]


def test_a_replay_begins_at_the_speed_that_was_asked_for(
    stored: tuple[Path, list[Snapshot]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[ReplaySession] = []

    async def app_run(app: ReplaySession) -> int:
        shown.append(app)
        return 0

    monkeypatch.setattr(dashboard, "RvtopApp", lambda replay, look: replay)
    monkeypatch.setattr(dashboard, "run_app_async", app_run)
    monkeypatch.setattr(dashboard, "look_now", lambda: None)
    assert [dashboard.show_replay(stored[0], speed) for speed in (1.0, 16.0)] == [0, 0]
    assert [one.speed for one in shown] == [1.0, 16.0]


def test_what_can_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: no such folder: give the folder of a run"):
        read_recording(tmp_path / "gone")
    with pytest.raises(UserError, match=r"holds no screen\.jsonl\.gz"):
        read_recording(tmp_path)
    (tmp_path / SCREEN).write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"screen.jsonl.gz: holds no second of a run \(.*damaged"):
        read_recording(tmp_path)


def test_a_run_that_was_killed_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    made, packer = snapshots()[:20], ScreenCompressor()
    (tmp_path / SCREEN).write_bytes(b"".join(map(packer.add, made)))
    assert read_recording(tmp_path).t_s[-1] == 19.0
