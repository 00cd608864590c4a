"""A session says that load is above what the server can answer, and ends there where it was told to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rvtop.results.findings import saturations
from rvtop.results.summary import summarise
from rvtop.session.load_parts import Second
from rvtop.session.saturation_watch import SaturationWatch
from rvtop.stats.saturation import LoadSecond
from tests.faults.sessions import Watched, request
from tests.mock.process import QueueingMock
from tests.unit.queue_rows import queue_seconds
from tests.unit.run_folder import command, make, phase, second
from tests.unit.run_folder import request as line

WORKLOAD = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 16}


class World:
    """A watch in virtual time, which sees the seconds of a queue as a session would show them."""

    def __init__(self, *, stops: bool = False, pair: object = None) -> None:
        self.events: list[tuple[str, str]] = []
        self.notes: list[dict[str, Any]] = []
        self.ended: list[tuple[str, str]] = []
        self.live = SimpleNamespace(in_flight=0, sent=0, due=0, last_full=lambda now: self.full)
        self.full: Any = None
        self.each = 1 if pair is None else 2  # requests of an arrival
        parts: Any = SimpleNamespace(
            feed=SimpleNamespace(say=lambda text, level="info", kind="": self.events.append((level, text))),
            recorder=SimpleNamespace(note=self.notes.append),
            ending=SimpleNamespace(fail=lambda kind, text: self.ended.append((kind, text))),
            request=SimpleNamespace(stops_when_saturated=stops, pair=pair),
        )
        player: Any = SimpleNamespace(phase=SimpleNamespace(name="hold", trace=False))
        self.watch = SaturationWatch(parts, self.live, player)  # type: ignore[arg-type]
        self.t_s = 0

    def see(self, seconds: list[LoadSecond]) -> None:
        for one in seconds:
            self.t_s += 1
            self.live.in_flight = one.in_flight * self.each
            self.live.sent += one.sent * self.each
            self.full = made(one)
            row = {"t_s": float(self.t_s), "target_rps": one.planned_rps}
            self.watch.look(Second(self.t_s * 10**9, row, False))


def made(one: LoadSecond) -> Any:
    """A second's latencies, as far as the watch asks for them."""
    ttft_ns = 0 if one.ttft_ms is None else one.ttft_ms * 1e6
    return SimpleNamespace(
        ttft=SimpleNamespace(count=int(one.ttft_ms is not None), mean_ns=ttft_ns),
        e2e=SimpleNamespace(
            count=int(one.service_s is not None), mean_ns=ttft_ns + (one.service_s or 0) * 1e9
        ),
    )


def test_it_is_said_once_and_gone_when_the_server_keeps_up_again() -> None:
    world = World()
    seconds = queue_seconds(3, 8, 0.2, ((0.5, 12), (1.25, 30), (0.2, 40)), 1.0)
    world.see(seconds[:42])
    assert [level for level, _ in world.events] == ["warn"]
    assert world.events[0][1].startswith("over saturation since ")
    found = world.watch.saturation
    assert found is not None
    assert 20 <= found.lasts_s <= 32
    assert found.in_flight.per_s == pytest.approx(10.0, abs=1.5)
    world.see(seconds[42:])
    assert world.watch.saturation is None
    assert [level for level, _ in world.events] == ["warn", "info"]
    assert [(note["cmd"], note["phase"]) for note in world.notes] == [("saturated", "hold")]
    assert 12 <= world.notes[0]["since_s"] <= 27
    assert not world.ended


def test_of_pairs_each_arrival_is_two_requests() -> None:
    world = World(pair="the other server")
    world.see(queue_seconds(3, 8, 0.2, ((0.5, 12), (1.25, 30)), 1.0))
    assert [level for level, _ in world.events] == ["warn"]


def test_below_the_capacity_nothing_is_said() -> None:
    world = World(stops=True)
    world.see(queue_seconds(4, 8, 0.2, ((0.9, 60),), 1.0))
    assert (world.events, world.notes, world.ended) == ([], [], [])


def test_the_run_ends_where_that_was_asked_for() -> None:
    world = World(stops=True)
    world.see(queue_seconds(5, 8, 0.2, ((1.25, 20),), 1.0))
    ((kind, text),) = world.ended
    assert kind == "saturated"
    assert text.startswith("stopped: over saturation since ")


def test_the_summary_has_it_among_its_findings(tmp_path: Path) -> None:
    figures = {"planned_rps": 50.0, "answered_rps": 40.0}
    noted = command(20.0, "saturated", phase="hold", since_s=12.0, text="since 8 s: …", figures=figures)
    folder = make(
        tmp_path,
        [line(0, "hold", 500.0, lag=0.0, first=50.0, last=100.0)],
        [phase("hold", 0.0, 30.0), noted, command(30.0, "stop")],
        [second(1.0)],
    )
    (found,) = summarise(folder)["findings"]
    assert found == {
        "kind": "saturation",
        "text": "over saturation since 8 s: … (phase hold)",
        "since_s": 12.0,
        "figures": figures,
        "knob": "",
    }
    warm: Any = [SimpleNamespace(name="hold", warmup=True)]
    assert saturations([noted], warm) == []


def test_a_damaged_note_is_left_out(tmp_path: Path) -> None:
    folder = make(
        tmp_path,
        [line(0, "hold", 500.0, lag=0.0, first=50.0, last=100.0)],
        [phase("hold", 0.0, 30.0), command(20.0, "saturated", phase="hold", text=7), command(30.0, "stop")],
    )
    result = summarise(folder)
    assert result["findings"] == []
    assert any("commands.jsonl" in note for note in result["unread"])


@pytest.mark.slow
async def test_a_real_server_beyond_its_capacity_ends_the_run(tmp_path: Path) -> None:
    with QueueingMock(8) as mock:
        steps = (
            {"name": "half", "rate": mock.capacity / 2, "duration": "12s", "drain": "1s"},
            {"name": "over", "rate": 1.25 * mock.capacity, "duration": "60s"},
        )
        asked = request(mock.url, tmp_path / "run", *steps, workload=WORKLOAD, stop_when_saturated=True)
        outcome = await Watched(asked).end()
    assert outcome.exit_code == 1
    assert outcome.message.startswith("stopped: over saturation since ")
    assert outcome.summary is not None
    assert outcome.summary["end"]["kind"] == "saturated"
    (found,) = (each for each in outcome.summary["findings"] if each["kind"] == "saturation")
    begun = next(part for part in outcome.summary["phases"] if part["name"] == "over")
    assert begun["requests"]["ok"] > 0
    assert found["figures"]["answered_rps"] < 1.1 * mock.capacity


@pytest.mark.slow
async def test_a_real_server_below_its_capacity_is_left_alone(tmp_path: Path) -> None:
    with QueueingMock(8) as mock:
        hold = {"name": "hold", "rate": 0.9 * mock.capacity, "duration": "30s", "arrivals": "poisson"}
        asked = request(mock.url, tmp_path / "run", hold, workload=WORKLOAD, stop_when_saturated=True)
        outcome = await Watched(asked).end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    assert [each for each in outcome.summary["findings"] if each["kind"] == "saturation"] == []
