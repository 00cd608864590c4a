"""What commands change in the requests that a worker makes, to the nanosecond, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import Lengths, PhasePlan, PlanEvent
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.record import Record
from rvtop.load.worker.messages import Delta
from rvtop.load.worker.reporter import Reporter
from tests.unit.sender_world import MS, S, World

LEAD = 50 * MS


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hi", "max_tokens": 4}\n')
    return path


def host(request: bytes) -> bytes:
    return request.partition(b"Host: ")[2].partition(b"\r\n")[0]


def body(request: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("can_schedule", [True, False])
def test_a_target_gets_what_is_intended_from_its_time_on_and_nothing_else(
    prompts: Path, can_schedule: bool, seed: int
) -> None:
    """Also if the command comes late, after requests behind it were made for the target before."""
    draw = np.random.default_rng(seed)
    phase = PhasePlan("p", 997.0, 997.0, arrivals="poisson")
    world = World(prompts, phase, phase, can_schedule=can_schedule)
    second = Endpoint(Address("http://127.0.0.2:9"))
    world.sender.add_target(second, [0])
    world.sender.command(PlanEvent(S, "phase", 0))
    at = S + int(draw.integers(100 * MS, S))
    given = at - int(draw.integers(0, 2 * LEAD))
    world.pending += [(given, PlanEvent(at, "target", 1)), (given, PlanEvent(at, "phase", 1))]
    world.run(3 * S)
    late = [r for r in world.sent if r.intended_ns >= at]
    assert [world.sent[0].seq + n for n in range(len(world.sent))] == sorted(r.seq for r in world.sent)
    assert len(late) > 500 < len(world.sent) - len(late)
    assert {r.target for r in late} == {1}
    assert {r.target for r in world.sent if r.intended_ns < at} == {0}
    assert {r.phase for r in late} == {1}
    for record in world.sent:
        assert host(world.requests[record]) == (b"127.0.0.2:9" if record.target else b"127.0.0.1:9")
    assert world.targets == [(at, second)]


def test_models_of_a_target_are_sent_to_in_turn(prompts: Path) -> None:
    world = World(prompts, PhasePlan("p", 100.0, 100.0))
    sets = world.sender._prompt_sets
    sets[0].add_models(["b", "c"])
    world.sender.add_target(Endpoint(Address("http://127.0.0.2:9")), [2, 0])
    world.sender.command(PlanEvent(S, "phase", 0))
    world.sender.command(PlanEvent(S + 200 * MS, "target", 1))
    world.run(2 * S)
    names = [body(world.requests[r])["model"] for r in sorted(world.sent, key=lambda r: r.seq)]
    assert names[:20] == ["m"] * 20
    assert names[20:26] == ["c", "m"] * 3


def test_lengths_hold_from_their_time_on_whenever_the_command_came(prompts: Path, tmp_path: Path) -> None:
    world = World(prompts, PhasePlan("p", 1000.0, 1000.0))
    path = tmp_path / "long.jsonl"
    path.write_text('{"prompt": "hi hi hi", "max_tokens": 4, "min_tokens": 3}\n' * 20)
    world.sender.add_prompts(Prompts(path, ["m"], {}, whole=False))
    world.sender.command(PlanEvent(S, "phase", 0))
    changes = {1100: Lengths(0, 9), 1200: Lengths(1, 2), 1300: Lengths(1), 1400: Lengths()}
    for at_ms, lengths in changes.items():
        world.pending.append(((at_ms - 10) * MS, PlanEvent(at_ms * MS, "workload", lengths=lengths)))
    world.run(1500 * MS)
    assert len(world.sent) == 500
    seen = {}
    for record in world.sent:
        made = body(world.requests[record])
        lengths_of = (made["prompt"], made["max_tokens"], made.get("min_tokens"))
        assert seen.setdefault((record.intended_ns - S) // (100 * MS), lengths_of) == lengths_of
    assert list(seen.values()) == [
        ("hi", 4, None),
        ("hi", 9, None),
        ("hi hi hi", 2, 2),
        ("hi hi hi", 4, 3),
        ("hi", 4, None),
    ]


@pytest.mark.parametrize("concurrency", [0, 3])
def test_a_cancel_ends_what_is_in_flight_and_the_load_goes_on(prompts: Path, concurrency: int) -> None:
    world = World(prompts, PhasePlan("p", 100.0, 100.0, concurrency=concurrency), answer_ns=10 * S)
    world.sender.command(PlanEvent(S, "phase", 0))
    world.sender.command(PlanEvent(2 * S, "cancel"))
    world.run(3 * S)
    before = [r for r in world.sent if r.intended_ns < 2 * S]
    assert len(before) == (concurrency or 100)
    assert {r.error for r in before} == {"cancelled"}
    after = [r for r in world.sent if r.intended_ns >= 2 * S]
    assert len(after) == (concurrency or 100)
    assert {r.error for r in after} == {None}


def test_goodput_counts_by_the_limits_that_held_at_the_intended_time(prompts: Path) -> None:
    spec = World(prompts, PhasePlan("p")).spec
    deltas: list[Delta] = []
    reporter = Reporter(spec, deltas.append)

    def end(*intended_ms: int) -> int:
        """Requests with a TTFT of 100 ms each; how many were good."""
        for ms in intended_ms:
            record = Record(0, 0, 0, 0, ms * MS)
            record.sent_ns = record.intended_ns
            record.first_ns, record.last_ns, record.chunks = (ms + 100) * MS, (ms + 200) * MS, 5
            reporter.note_ended(record)
        reporter.report(S, Fresh(), 0, 0, over=False)
        return deltas[-1].good

    assert end(1, 2) == 0  # no limit, no goodput
    reporter.judge_by({"ttft": 150 * MS}, 500 * MS)
    reporter.judge_by({"ttft": 50 * MS}, 700 * MS)
    assert end(499, 500, 699, 700, 999) == 2
    reporter.judge_by({"e2e": 250 * MS}, 900 * MS)
    assert end(499, 500, 699, 700, 900, 999) == 4
    reporter.judge_by({}, 900 * MS)  # taken back before it came: the later word counts
    assert end(500, 900, 999) == 1
