"""Requests and sessions in this process, for tests: made of plain data, watched while they run."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.contract.command import Command
from rvtop.contract.snapshot import Snapshot
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from rvtop.load.wire.timeouts import Timeouts
from rvtop.scenario.load import scenario_from
from rvtop.session.request import Outcome, SessionRequest
from rvtop.session.session import Session

WORKLOAD = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 8}


def request(url: str, out: Path, *phases: dict[str, Any], **more: Any) -> SessionRequest:
    """What ``rvtop run`` would ask for with a scenario of ``phases`` (as in a file)."""
    data = {"name": "test", "seed": 7, "workload": WORKLOAD, "phases": list(phases)}
    for key in ("thresholds", "slo", "workload", "endpoint", "stream", "batch"):
        if key in more:
            data[key] = more.pop(key)
    timeouts = more.pop("timeouts", Timeouts(30.0, None, 60.0))
    return SessionRequest(scenario=scenario_from(data, "test"), out=out, url=url, timeouts=timeouts, **more)


async def ask(target: Endpoint, limits: tuple[float, float, float], count: int = 1) -> list[Record]:
    """Sends ``count`` requests in turn over one pool, sweeping as a worker does; how they ended."""
    ended: list[Record] = []
    pool = ConnectionPool(target, ended.append)
    body = b'{"model":"mock","stream":true,"stream_options":{"include_usage":true},"max_tokens":8}'
    connect, ttft, stall = (round(limit * 1e9) for limit in limits)
    loop = asyncio.get_running_loop()
    for number in range(count):
        record = Record(number, 0, 0, 0, perf_counter_ns())
        pool.submit(record, target.request(body, f"t-{number}"))
        until = loop.time() + 240
        while len(ended) == number:
            assert loop.time() < until, "the request never ended"
            await asyncio.sleep(0.01)
            pool.sweep(perf_counter_ns(), connect, ttft, stall)
    assert pool.busy == {}
    pool.close()
    for _ in range(100):  # aborted connections are told of a turn later
        if not pool._open:
            break
        await asyncio.sleep(0.01)
    assert pool._open == set()
    assert pool.idle == 0
    return ended


class Watched:
    """A session that runs, with every picture of it that was taken."""

    def __init__(self, request: SessionRequest) -> None:
        self.session = Session(request)
        self.out = request.out
        self.seen: list[Snapshot] = []
        self._task = asyncio.create_task(self.session.run())

    @property
    def now(self) -> Snapshot:
        """A new picture."""
        self.seen.append(self.session.snapshot())
        return self.seen[-1]

    def send(self, command: Command) -> None:
        self.session.command(command)

    async def until(self, true: Callable[[Snapshot], object], why: str, limit_s: float = 240.0) -> Snapshot:
        """Waits until ``true`` of the newest picture. Raises AssertionError when the session ends before, or
        after a limit far beyond what it can take."""
        async with asyncio.timeout(limit_s):
            while not true(self.now):
                assert not self._task.done(), f"the session ended before {why}: {self._task.result()}"
                await asyncio.sleep(0.02)
        return self.seen[-1]

    async def end(self, limit_s: float = 600.0) -> Outcome:
        """Its outcome; looks at it meanwhile, as a screen would."""
        async with asyncio.timeout(limit_s):
            while not self._task.done():
                self.now  # noqa: B018 - taking the picture is the point
                await asyncio.sleep(0.02)
        outcome = self._task.result()
        assert self.now.message == outcome.message
        return outcome

    def rows(self, name: str = "requests.jsonl") -> list[dict[str, Any]]:
        """The lines of one of its files."""
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]


def content(path: Path) -> bytes:
    """What a file of a run folder says."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def errors_of(snapshot: Snapshot) -> dict[str, int]:
    return dict(snapshot.load.errors)


def unlimited(err: str) -> str:
    """stderr without what it says of a client that this machine was too slow for."""
    return "".join(line for line in err.splitlines(keepends=True) if "CLIENT-LIMITED" not in line)
