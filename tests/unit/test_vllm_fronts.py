"""The front processes of an RVC engine as its actor sees them, with processes that only say what it hears."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.api.admission import Admission
from backends.cluster.vllm_fleet import slots_of
from backends.cluster.vllm_front import FrontSpec
from backends.cluster.vllm_fronts import Fronts
from backends.cluster.vllm_service import EngineSpec
from backends.engines.vllm_clients import client_places, tell_of_requests
from backends.errors import ApiError, StartFailure, UsageError
from backends.settings import fronts as settings
from backends.settings.options import ModelSpec, Options
from tests.unit.test_api_admission import engine

LIMIT_S = 60.0
#: Has two requests, of which one ends, and does what it is told as a front process does.
FAKE = """
import socket, sys
sys.stdin.buffer.read()
lines = socket.socket(fileno=int(sys.argv[1])).makefile("rw")
for line in {said!r}:
    print(line, file=lines, flush=True)
for line in lines:
    print("idle", file=lines, flush=True)
"""
SAID = ("+ a a-1", "+ b b-1", "- a", "up 4711")


def spec(folder: Path) -> FrontSpec:
    options = Options("rvc", (ModelSpec("m", "tiny"),), listener=None)  # type: ignore[arg-type]
    one = EngineSpec("vllm-0", "m", "tiny", 0.0, 1, 8, True, "secret", options, {}, fronts=2)
    place = client_places(folder, 1)[0]
    return FrontSpec(one, (), None, "tiny", (), "node", place, "127.0.0.1", 0, str(folder))


@pytest.fixture
async def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Fronts]]:
    monkeypatch.setattr("backends.cluster.vllm_fronts.LATE_S", 0.01)
    made: list[Fronts] = []

    def make(said: Sequence[str] = SAID, count: int = 1, spare: int = 1) -> Fronts:
        command = (sys.executable, "-I", "-S", "-c", FAKE.format(said=said))
        made.append(Fronts(spec(tmp_path), client_places(tmp_path, count + spare), count, command))
        return made[-1]

    yield make
    for fronts in made:
        await fronts.close()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not what():
            await asyncio.sleep(0.01)


async def test_one_that_dies_is_replaced_and_what_it_left_is_ended(started: Callable[..., Fronts]) -> None:
    ended: list[str] = []

    async def abort(ids: Sequence[str]) -> None:
        ended.extend(ids)

    fronts = started()
    await fronts.begin()
    assert await fronts.up() == (("127.0.0.1", 4711),)
    (first,) = fronts.rows()
    assert (first["state"], first["in_flight"]) == ("ready", 1)
    fronts.watch(abort)
    os.kill(first["pid"], signal.SIGKILL)
    await until(lambda: fronts.restarts == 1 and fronts.rows()[0]["state"] == "ready")
    (second,) = fronts.rows()
    assert second["pid"] != first["pid"]
    assert ended == ["b-1", "b-1"]  # once more for what came late
    failed = asyncio.create_task(fronts.failed())
    assert not failed.done()
    os.kill(second["pid"], signal.SIGKILL)  # there is no place for another one
    async with asyncio.timeout(LIMIT_S):
        assert await failed == "its front processes ended too often"
    assert ended == ["b-1"] * 4


async def test_they_are_drained_and_ended(started: Callable[..., Fronts]) -> None:
    fronts = started(count=2)
    await fronts.begin()
    assert len(await fronts.up()) == 2
    async with asyncio.timeout(LIMIT_S):
        await fronts.drain(LIMIT_S)
    await fronts.close()
    for row in fronts.rows():
        with pytest.raises(ProcessLookupError):
            os.kill(row["pid"], 0)


@pytest.mark.parametrize(
    ("said", "why"),
    [(("failed no such model",), "no such model"), (("nonsense",), "ended before it was up")],
)
async def test_one_that_does_not_come_up_fails_the_start(
    started: Callable[..., Fronts], said: Sequence[str], why: str
) -> None:
    fronts = started(said)
    await fronts.begin()
    if "failed" not in said[0]:
        os.kill(fronts.rows()[0]["pid"], signal.SIGKILL)
    with pytest.raises(StartFailure, match=why):
        await fronts.up()


async def test_the_engine_is_told_of_no_request_before_the_actor() -> None:
    heard: list[object] = []

    async def add(request: SimpleNamespace) -> None:
        heard.append(request)

    llm = SimpleNamespace(engine_core=SimpleNamespace(add_request_async=add))
    tell_of_requests(llm, lambda ours, engines: heard.append((ours, engines)))
    request = SimpleNamespace(request_id="r-77", external_req_id="r")
    await llm.engine_core.add_request_async(request)
    assert heard == [("r", "r-77"), request]


def test_places_and_slots_are_apart(tmp_path: Path) -> None:
    places = client_places(tmp_path, 3)
    assert [place.index for place in places] == [1, 2, 3]
    assert {place.count for place in places} == {4}
    assert len({address for p in places for address in (p.input_address, p.output_address)}) == 6
    assert slots_of("vllm-0", 3) == ["vllm-0", "vllm-0.1", "vllm-0.2"]


async def test_each_of_several_queues_takes_its_part() -> None:
    one, half = (Admission([engine(concurrency=4, own_queue=True)], 1, queues=queues) for queues in (1, 2))
    for admission, most in ((one, 5), (half, 3)):  # at once, and one that waits
        for _ in range(most):
            await admission.acquire()
        with pytest.raises(ApiError, match="queue is full"):
            await admission.acquire()


def parsed(*argv: str) -> int | None:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    return settings.from_args(parser.parse_args(argv))


def test_how_many_there_are() -> None:
    assert (parsed(), parsed("--front-processes", "3"), parsed("--front-processes", "auto")) == (1, 3, None)
    for text in ("0", "-1", "two", "1.5"):
        with pytest.raises(UsageError, match=f"--front-processes {text}: must be a whole number"):
            parsed(f"--front-processes={text}")

    def auto(*shares: tuple[float, int]) -> int:
        return settings.chosen(
            None, [SimpleNamespace(num_gpus=gpus, threads=cores) for gpus, cores in shares]
        )

    assert [auto((1.0, cores)) for cores in (1, 4, 8, 16, 64)] == [1, 1, 2, 4, 4]
    assert auto((0.0, 64)) == 1  # on the CPU the engine needs the cores
    assert settings.chosen(2, []) == 2
