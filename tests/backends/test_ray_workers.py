"""Load workers on someone's cluster of two nodes: the same load as by processes here, what a loss costs, and
that nothing of ours stays there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvtop.contract.command import Retarget, SetWorkload, Stop
from rvtop.load.fleet.local import PoolError
from rvtop.load.fleet.workers import Workers
from rvtop.load.plan.schedule import PhasePlan
from rvtop.load.wire.endpoint import Address
from tests.backends import processes
from tests.backends.processes import Process
from tests.backends.ray_load import Load, workers_in
from tests.backends.someones_cluster import SomeonesCluster, started
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.faulty import FaultyServer, refusing_port
from tests.unit.processes import wait_for

GONE_LIMIT_S = 15.0
RVTOP = (sys.executable, "-P", "-m", "rvtop.cli")
KEY = "sk-a-secret-of-the-test"
WITHIN = 0.02
#: A stall of the machine in one of two runs is not the workers' doing; it does not come three times.
TRIES = 3


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SomeonesCluster]:
    cluster = started(tmp_path_factory)
    yield cluster
    cluster.close()


@pytest.fixture(autouse=True)
def token(theirs: SomeonesCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in theirs.auth.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    return path


def keepers(theirs: SomeonesCluster) -> list[Process]:
    """The actors and the workers below them."""
    workers = workers_in(theirs.env["RAY_TMPDIR"])
    return [process for worker in workers for process in processes.family(worker.parent)]


async def test_two_nodes_deliver_what_two_processes_do(theirs: SomeonesCluster, prompts: Path) -> None:
    phase = PhasePlan("p", 40.0, 40.0, 5.0, arrivals="poisson")
    off: dict[str, float] = {}
    with any_mock(ttft_ms=1000, step_ms=20, tokens=16) as mock:
        for _ in range(TRIES):
            async with Load(Address(mock.url), prompts, phase, ray=None) as here:
                await here.finish()
            async with Load(Address(mock.url), prompts, phase, ray=theirs.address) as there:
                await there.finish()
                clocks = there.pool.clocks
            assert there.plan == here.plan  # to the nanosecond, and each worker its share
            assert len(here.plan) > 100
            for load in (here, there):
                assert load.lost == []
                assert {row["error"] for row in load.rows} == {None}
                assert {row["output_tokens"] for row in load.rows} == {16}
                assert sum(delta.done for delta in load.latest.values()) == len(load.plan)
            truth = here.percentiles()
            off = {name: abs(value / truth[name] - 1) for name, value in there.percentiles().items()}
            if max(off.values()) <= WITHIN:
                break
    assert max(off.values()) <= WITHIN, off
    # Both nodes are this machine, whose clock is 0 off itself: the bounds must hold that.
    assert len({clock.node_id for clock in clocks}) == len(clocks) == 2
    assert all(abs(clock.offset_ns) <= clock.error_ns for clock in clocks)


@pytest.mark.parametrize("what", ["actor", "node"])
async def test_one_is_lost_and_the_other_goes_on(theirs: SomeonesCluster, prompts: Path, what: str) -> None:
    phase = PhasePlan("p", 40.0, 40.0, 10.0)
    with any_mock(ttft_ms=50, step_ms=10, tokens=16) as mock:
        async with Load(Address(mock.url), prompts, phase, ray=theirs.address) as load:
            await load.until(lambda: len(load.rows) > 20, "some answers")
            before = keepers(theirs)
            if what == "actor":
                os.kill(workers_in(theirs.env["RAY_TMPDIR"])[0].parent, signal.SIGKILL)
            else:
                theirs.ask("kill")
            await load.until(lambda: load.lost, "the loss to be told")
            (lost,) = load.lost
            assert "node " in load.lost_why[lost]
            await load.finish()
            assert load.lost == [lost]
            assert load.pool.lost == {lost}
            kept = [row for row in load.rows if row["worker"] != lost]
            assert [row["id"] for row in kept] == list(range(1 - lost, 400, 2))
            assert {row["error"] for row in kept} == {None}
    processes.wait_until_gone(before, set(), GONE_LIMIT_S)
    if what == "node":
        theirs.ask("add")


async def test_without_the_bridge_all_are_lost(theirs: SomeonesCluster, prompts: Path) -> None:
    with any_mock(ttft_ms=50, step_ms=10, tokens=16) as mock:
        async with Load(Address(mock.url), prompts, PhasePlan("p", 20.0, 20.0), ray=theirs.address) as load:
            await load.until(lambda: len(load.latest) == 2, "both workers")
            before = keepers(theirs)
            assert len(before) >= 4
            os.kill(load.pool._bridge.pid, signal.SIGKILL)
            await load.until(lambda: len(load.lost) == 2, "the losses to be told")
            assert sorted(load.lost) == [0, 1]
            processes.wait_until_gone(before, set(), GONE_LIMIT_S)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_session_that_ends_leaves_nothing(theirs: SomeonesCluster, tmp_path: Path, how: int) -> None:
    """``rvtop run`` itself: killed, or told by Ctrl-C, which is an end with results."""
    out = tmp_path / "run"
    with any_mock(ttft_ms=50, step_ms=10, tokens=16) as mock:
        load = ("--rate", "20", "--duration", "10m", "--output-tokens", "16", "--ui", "none", "--yes")
        where = ("--target", mock.url, "--workers", "ray:2", "--ray-address", theirs.address)
        session = subprocess.Popen([*RVTOP, "run", *where, *load, "--out", str(out)])
        try:
            rows = out / "requests.jsonl"
            wait_for(lambda: rows.exists() and rows.read_bytes().count(b"\n") > 20, "some answers")
            workers = workers_in(theirs.env["RAY_TMPDIR"])
            assert len(workers) == 2
            for worker in workers:  # what a worker reads has no name that could stay behind
                links = [os.readlink(path) for path in Path(f"/proc/{worker.pid}/fd").iterdir()]
                assert any(link.endswith(" (deleted)") for link in links)
            before = [*keepers(theirs), *processes.family(session.pid)]
            session.send_signal(how)
            assert session.wait(60) == (-9 if how == signal.SIGKILL else 130)
        finally:
            session.kill()
            session.wait()
        processes.wait_until_gone(before, set(), GONE_LIMIT_S)
    nodes = json.loads((out / "environment.json").read_text())["nodes"]
    assert len(nodes) == 3
    assert all(abs(node["clock_offset_ns"]) <= node["clock_error_ns"] for node in nodes)
    if how == signal.SIGINT:
        assert json.loads((out / "summary.json").read_text())["requests"]["ok"] > 20


async def test_targets_and_prompts_reach_workers_on_nodes(theirs: SomeonesCluster, tmp_path: Path) -> None:
    phase = {"name": "a", "rate": 50, "duration": "10m"}
    where = {"workers": Workers(2, ray=True), "ray_address": theirs.address}
    with any_mock(ttft_ms=10, step_ms=2) as first, any_mock(ttft_ms=10, step_ms=2) as second:
        watched = Watched(request(first.url, tmp_path / "run", phase, **where))
        await watched.until(lambda s: s.load.ok, "the load", 120)
        for command in (SetWorkload(3, 300), Retarget(second.url)):
            answer = watched.session.commands.follow(command, "control")
            assert answer.later is not None
            await answer.later
        ok = watched.now.load.ok
        await watched.until(lambda s: s.load.ok > ok + 50, "the load there")
        watched.send(Stop())
        outcome = await watched.end()
        assert outcome.exit_code == 0, outcome.message
        seen = second.stop().id
    (switch,) = (row for row in watched.rows("commands.jsonl") if row["cmd"] == "target")
    requests = watched.rows()
    assert {row["id"] for row in requests} == set(range(len(requests)))
    there = [row for row in requests if row["intended_ns"] >= switch["at_ns"]]
    assert {row.get("target") for row in there} == {1}
    assert {row.get("target") for row in requests if row not in there} == {None}
    there = [row for row in there if row["error"] is None]
    assert len(there) > 40
    assert {row["worker"] for row in there} == {0, 1}
    assert all(row["prompt_tokens"] > 100 and row["output_tokens"] == 3 for row in there)
    assert {f"rvtop-{row['id']}" for row in there} <= set(seen)


async def test_the_key_reaches_the_workers_and_nobody_else(
    theirs: SomeonesCluster, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY_OF_THE_TEST", KEY)
    async with FaultyServer() as server:
        base = server.url("good").partition("/good")[0]
        address = Address(base, "/good/v1/chat/completions", key_env="A_KEY_OF_THE_TEST")
        async with Load(address, prompts, PhasePlan("p", 20.0, 20.0, 1.0), ray=theirs.address) as load:
            for process in keepers(theirs):
                assert KEY.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            await load.finish()
        assert len(load.rows) == 20
        assert {heard[2].get("authorization") for heard in server.heard} == {f"Bearer {KEY}"}
    files = [path for path in Path(theirs.env["RAY_TMPDIR"]).rglob("*") if path.is_file()]
    assert len(files) > 10  # Ray's logs of its own doings among them
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


async def refusal(prompts: Path, ray: str) -> str:
    with pytest.raises(PoolError) as caught:
        async with Load(Address("http://127.0.0.1:9"), prompts, PhasePlan("p"), ray=ray):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_what_can_t_be_joined_is_refused_in_one_line(
    theirs: SomeonesCluster, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_port() as port:
        assert "no Ray cluster answers at" in await refusal(prompts, f"127.0.0.1:{port}")
    assert "write `auto` or HOST:PORT" in await refusal(prompts, "somewhere")
    assert "Ray Client" in await refusal(prompts, "ray://127.0.0.1:10001")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert "wants its token; set RAY_AUTH_MODE" in await refusal(prompts, theirs.address)
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert await refusal(prompts, theirs.address) == "`--workers ray:N` needs Ray: pip install 'rvtop[ray]'"
