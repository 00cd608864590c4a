"""A load worker that sends each arrival to two targets: which requests, where, in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rvtop.contract.pairs import SAME
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.paired import PairedPool
from rvtop.load.wire.record import Record
from rvtop.load.worker.pairs import second_first
from tests.mock.faulty import FaultyServer
from tests.unit.sender_world import MS, S, World


class Paired(World):
    """A sender whose pool has a second target; ``beside`` are the requests that went over its second half."""

    def __init__(self, prompts: Path, *phases: PhasePlan) -> None:
        super().__init__(prompts, *phases)
        self.beside: list[Record] = []
        self.second: Endpoint | None = None
        self.there = Endpoint(replace(self.spec.address, url="http://127.0.0.1:19"))
        self.sender.pair_with(self.there, [0], self)  # type: ignore[arg-type]

    def submit_second(self, record: Record, request: bytes) -> None:
        self.beside.append(record)
        self.submit(record, request)

    def retarget_second(self, target: Endpoint) -> None:
        self.second = target


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "question {n}", "max_tokens": 4}}\n' for n in range(7)))
    return path


def test_each_arrival_is_two_requests_with_one_prompt_and_one_time(prompts: Path) -> None:
    world = Paired(prompts, PhasePlan("p", 100.0, 100.0, 4.0))
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(60 * S)
    assert sorted(record.seq for record in world.sent) == list(range(800))
    assert world.second is world.there
    first = {record.seq // 2: record for record in world.sent if not record.seq % 2}
    second = {record.seq // 2: record for record in world.beside}
    assert all(record.seq % 2 for record in world.beside)
    for pair, record in first.items():
        other = second[pair]
        assert (record.prompt, record.intended_ns) == (other.prompt, other.intended_ns)
        assert (record.target, other.target) == (0, 1)
        assert b"Host: 127.0.0.1:9\r\n" in world.requests[record]
        assert b"Host: 127.0.0.1:19\r\n" in world.requests[other]
        assert b"rvtop-%d\r\n" % other.seq in world.requests[other]
    assert len(world.drained) == 1
    assert world.drained[0] == max(record.intended_ns for record in world.sent) + world.answer_ns


def test_a_coin_says_which_is_sent_first_and_it_is_the_seed_s(prompts: Path) -> None:
    world = Paired(prompts, PhasePlan("p", 100.0, 100.0, 4.0))
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(60 * S)
    order = [record.seq for record in world.sent]
    ahead = [order.index(2 * pair + 1) < order.index(2 * pair) for pair in range(400)]
    assert ahead == [second_first(world.spec.seed, pair) for pair in range(400)]
    assert 160 < sum(ahead) < 240
    assert ahead != [second_first(world.spec.seed + 1, pair) for pair in range(400)]


def test_a_against_a_goes_to_the_first_target_over_both_halves(prompts: Path) -> None:
    phases = (PhasePlan("w", 100.0, 100.0, 0.5), PhasePlan(SAME, 100.0, 100.0, 1.0), PhasePlan("p", 9.0, 9.0))
    world = Paired(prompts, *phases)
    for number, at_s in enumerate((1, 3, 6)):
        world.sender.command(PlanEvent(at_s * S, "phase", number))
    world.run(2 * S)
    assert world.second is world.there
    world.run(5 * S)
    assert world.second is not world.there
    assert [at_ns for at_ns, _ in world.targets] == [S, 3 * S]  # both halves begin anew
    same = [record for record in world.sent if record.phase == 1]
    assert len(same) == 200
    assert {record.target for record in same} == {0}
    assert all(b"Host: 127.0.0.1:9\r\n" in world.requests[record] for record in same)
    assert sum(record in world.beside for record in same) == 100
    world.run(7 * S)
    assert world.second is world.there
    assert {record.target for record in world.sent if record.phase == 2} == {0, 1}


def test_a_stop_ends_both_of_a_pair(prompts: Path) -> None:
    world = Paired(prompts, PhasePlan("p", 10.0, 10.0))
    world.answer_ns = 10 * S
    world.sender.command(PlanEvent(S, "phase", 0))
    world.sender.command(PlanEvent(2 * S + MS, "stop"))
    world.run(3 * S)
    assert not world.busy
    assert {record.error for record in world.sent} == {"cancelled"}
    assert len(world.sent) == 22


async def test_a_pool_of_two_halves_reads_sweeps_and_cancels_both() -> None:
    """Over real sockets: one half is answered, the other is not, and is given up."""
    ended: list[Record] = []
    body = b'{"model":"mock","stream":true,"stream_options":{"include_usage":true},"max_tokens":8}'
    async with FaultyServer() as server:
        base = server.url("good").partition("/good")[0]
        good = Endpoint(Address(base, "/good/v1/chat/completions"))
        silent = Endpoint(Address(base, "/never_answers/v1/chat/completions"))
        pool = PairedPool(good, ended.append, lambda record: None)
        pool.most = 10
        assert (pool.most, pool.second.most if pool.second else 0) == (5, 5)
        pool.retarget_second(silent)
        await settle(pool, good, silent, body, ended)
        assert {record.seq: record.error for record in ended} == {0: None, 1: "timeout_ttft"}
        assert pool.take().ttft_ns
        pool.submit_second(record := Record(3, 0, 0, 0, 0), silent.request(body, "t-3"))
        pool.cancel(record, "cancelled", "by hand")
        assert record.error == "cancelled"
        pool.close()
    assert pool.busy == {}


async def settle(
    pool: PairedPool, first: Endpoint, second: Endpoint, body: bytes, ended: list[Record]
) -> None:
    """Sends one request to each half and waits for both, sweeping as a worker does."""
    import asyncio
    from time import perf_counter_ns

    pool.submit(Record(0, 0, 0, 0, perf_counter_ns()), first.request(body, "t-0"))
    pool.submit_second(Record(1, 0, 0, 0, perf_counter_ns()), second.request(body, "t-1"))
    assert len(pool.busy) == 2
    async with asyncio.timeout(240):
        while len(ended) < 2:
            await asyncio.sleep(0.01)
            answered = any(record.seq == 0 for record in ended)
            pool.sweep(perf_counter_ns(), 10**11, 1 if answered else 10**12, None)
