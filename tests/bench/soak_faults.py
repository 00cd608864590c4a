"""Mixed load on two nodes with a fault every minute: ``python -m tests.bench.soak_faults`` (42 minutes).

Small Hugging Face engines (`rsc`) on a Ray cluster of two nodes that is not ours: two versions behind one
name, whose shares change while it runs, and replicas that follow a load that goes up and down; streams, some
of them given up by the client, and answers in one piece, of many lengths. Each ``--every`` seconds something
breaks, in turn: an engine is killed, the router is killed, a raylet hangs, the head's GCS dies (with its
state in Redis, where that is installed), weights are damaged while an engine dies, a node is announced to go
and goes. Then vLLM (`rvc`) answers the same load, and its engine is killed ``--vllm-kills`` times.

Exit code 1 when a request is not accounted for exactly once, an engine is not back or has a request in flight
at the end, shares are not what they were given or an arm got nothing, no replica came or went, a process is
left over, or the memory of the head's process or of the router grows by more than ``--limit-mb`` after the
first third.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from rvtop.contract.command import SetRate
from rvtop.errors import UserError
from rvtop.net.transport import Transport
from rvtop.target.splits import change_shares
from tests.backends import processes
from tests.backends.redis_server import program, redis
from tests.backends.under_load import Load, facts, loaded
from tests.bench.soak import Track, memory
from tests.bench.soak_stand import (
    ALIAS,
    FIRST_SHARE,
    MARK,
    NEW,
    Fault,
    Stand,
    damage_weights,
    end,
    hang_raylet,
    kill_engine,
    kill_gcs,
    kill_router,
    lose_node,
    marked,
    stand_of,
    until_whole,
)

#: Requests a second of streams and of whole answers, low and high.
_STREAM_RPS, _WHOLE_RPS = (1.0, 5.0), (0.5, 2.0)
_WAVE_S = 60.0
#: Percent of the alias for the new version, in turn; not in step with faults and waves.
_SHARES, _SHARE_S = (50.0, 90.0, 25.0, FIRST_SHARE), 37.0
_GONE_LIMIT_S = 60.0
_IDLE_LIMIT_S = 30.0
_SAMPLE_S = 2.0
_WORKLOAD = {
    "kind": "synthetic",
    "prompt_tokens": {"dist": "uniform", "min": 5, "max": 60},
    "output_tokens": {"dist": "uniform", "min": 1, "max": 30},
}
#: What it looks like where a backend does not answer, or not as it should.
_FAILS = (AssertionError, httpx.HTTPError, ValueError, KeyError)
#: Some streams are given up by the client.
_CANCEL = {"share": 0.05, "after": "100ms"}


@contextlib.asynccontextmanager
async def mixed(stand: Stand, folder: Path, seconds: float) -> AsyncIterator[dict[str, Load]]:
    """Streams and whole answers at once. Each load checks at its end that every request of it is accounted
    for once."""
    given: dict[str, Any] = {"models": [stand.asks_for], "workload": _WORKLOAD}
    async with (
        loaded(
            stand.url, folder / "streams", rate=_STREAM_RPS[0], seconds=seconds, cancel=_CANCEL, **given
        ) as streams,
        loaded(
            stand.url, folder / "whole", rate=_WHOLE_RPS[0], seconds=seconds, stream=False, **given
        ) as whole,
    ):
        yield {"streams": streams, "whole": whole}


async def soak(
    stand: Stand, folder: Path, faults: list[Fault], seconds: float, every_s: float, limit_mb: float
) -> list[str]:
    """What is wrong, a line each."""
    wrong: list[str] = []
    tracks = {"head": Track("head"), "router": Track("router")}
    async with mixed(stand, folder, seconds + 900) as loads:
        began = time.monotonic()
        helpers = [
            asyncio.create_task(_waves(loads)),
            asyncio.create_task(_weigh(stand, tracks, seconds / 3)),
        ]
        if stand.share is not None:
            helpers.append(asyncio.create_task(_shares(stand)))
        backs = []
        try:
            for number, fault in zip(range(round(seconds / every_s)), itertools.cycle(faults), strict=False):
                await asyncio.sleep(max(0.0, began + (number + 1) * every_s - time.monotonic()))
                name = f"fault {number + 1}, {fault.__name__}"
                print(f"  {time.monotonic() - began:5.0f} s  {_said(loads)}  {name}", flush=True)
                try:
                    await fault(stand)
                except _FAILS as error:
                    wrong.append(f"{name}: could not be made: {error!r}")
                backs.append(asyncio.create_task(_back(stand, name)))
            wrong += [why for why in await asyncio.gather(*backs) if why]
        finally:
            ended = [helper for helper in helpers if helper.done()]
            wrong += [f"a helper of this script ended: {helper.exception()!r}" for helper in ended]
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            for load in loads.values():
                load.end()
    wrong += [*_of_loads(loads, stand), *_of_memory(tracks, limit_mb)]
    if busy := await _in_flight(stand):
        wrong.append(f"requests in flight after the load: {busy}")
    return wrong


async def _back(stand: Stand, name: str) -> str:
    """Says when all is there again, which the next fault does not wait for; what is wrong, or ""."""
    try:
        back_s = await until_whole(stand)
        print(f"           {name}: all there {back_s:.0f} s after it; {await _engines(stand)}", flush=True)
    except _FAILS as error:
        return f"{name}: not all is back: {error!r}"
    return ""


def _of_loads(loads: dict[str, Load], stand: Stand) -> Iterator[str]:
    for name, load in loads.items():
        arms = load.summary.get("by_arm") or {}
        replicas = load.summary.get("replicas")
        print(f"  {name}: {load.summary['requests']}")
        got = {arm: part["requests"]["sent"] for arm, part in arms.items()}
        print(f"  {name}: by arm {got}, replicas {replicas}")
        if stand.share is not None and not all(got.get(model) for model in stand.models):
            yield f"{name}: an arm got nothing: {got}"
        if stand.share is not None and sum(got.values()) != len(load.requests):
            yield f"{name}: the arms do not add up: {got} of {len(load.requests)}"
        if stand.scales and not (replicas and replicas["ups"] and replicas["downs"]):
            yield f"{name}: replicas did not come and go: {replicas}"


def _of_memory(tracks: dict[str, Track], limit_mb: float) -> Iterator[str]:
    for track in tracks.values():
        if track.growth is None:
            yield f"{track.name}: no sample of its memory"
            continue
        print(f"  {track.name}: grew by {track.growth:.1f} MB")
        if track.growth > limit_mb:
            yield f"{track.name}: its memory grew by {track.growth:.1f} MB"


def _said(loads: dict[str, Load]) -> str:
    now = [load.session.snapshot().load for load in loads.values()]
    failed = sum(count for load in now for _, count in load.errors)
    return f"{sum(one.sent for one in now)} sent, {sum(one.ok for one in now)} ok, {failed} not"


async def _engines(stand: Stand) -> str:
    rows = (await facts(stand.url))["engines"]
    states = [f"{row['model']} {row['state']}" for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


async def _in_flight(stand: Stand) -> dict[str, int]:
    """What engines still hold after a while."""
    until = time.monotonic() + _IDLE_LIMIT_S
    while True:
        rows = (await facts(stand.url))["engines"]
        busy = {row["engine"]: row["in_flight"] for row in rows if row.get("in_flight")}
        if not busy or time.monotonic() > until:
            return busy
        await asyncio.sleep(1)


async def _waves(loads: dict[str, Load]) -> None:
    """The rates go up and down."""
    for high in itertools.cycle((True, False)):
        await asyncio.sleep(_WAVE_S)
        for load, rates in zip(loads.values(), (_STREAM_RPS, _WHOLE_RPS), strict=True):
            load.session.command(SetRate(rates[high]))


async def _shares(stand: Stand) -> None:
    """Other shares every now and then, as `rvtop split` gives them; a backend that does not answer is asked
    again."""
    for share in itertools.cycle(_SHARES):
        await asyncio.sleep(_SHARE_S)
        while True:
            with contextlib.suppress(UserError):
                await change_shares(stand.url, Transport(), ALIAS, {NEW: share})
                stand.share = share
                break
            await asyncio.sleep(1)


async def _weigh(stand: Stand, tracks: dict[str, Track], settle_s: float) -> None:
    await asyncio.sleep(settle_s)
    known: int | None = None
    while True:
        await asyncio.sleep(_SAMPLE_S)
        if (now := memory(stand.backend.pid)) is not None:
            tracks["head"].add(now)
        for router in processes.named(stand.backend.pid, "haproxy")[:1]:
            if known != router.pid:  # one that was killed begins anew
                known, tracks["router"] = router.pid, Track("router")
            if (now := memory(router.pid)) is not None:
                tracks["router"].add(now)


async def part(
    topology: str, faults: list[Fault], seconds: float, every_s: float, limit_mb: float, address: str | None
) -> list[str]:
    """One topology under load and faults, and whether anything of it is left afterwards."""
    from backends.models.tiny.tiny import ensure_model

    folder = Path(tempfile.mkdtemp(prefix="rvtop-soak-"))
    os.environ[MARK] = mark = secrets.token_hex(8)
    paths: set[Path] = set()
    try:
        print(f"{topology}: {seconds:.0f} s of load, a fault each {every_s:.0f} s", flush=True)
        with stand_of(topology, ensure_model("tiny"), folder, address) as stand:
            try:
                wrong = await soak(stand, folder, faults, seconds, every_s, limit_mb)
            except _FAILS as error:  # of the account, or nothing answers
                wrong = [repr(error)]
            paths = processes.folders(marked(mark))
            wrong += await end(stand)
        try:
            await asyncio.to_thread(processes.wait_until_gone, marked(mark), paths, _GONE_LIMIT_S)
        except AssertionError as error:
            wrong.append(f"something is left over: {error}")
        return [f"{topology}: {line}" for line in wrong]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each fault, and what is wrong at the end; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="of load on two nodes; 0: none")
    parser.add_argument("--every", type=float, default=60, help="seconds between two faults")
    parser.add_argument("--vllm-kills", type=int, default=3, help="of a vLLM engine; 0: none")
    parser.add_argument("--vllm-every", type=float, default=180, help="seconds between two of these")
    parser.add_argument("--limit-mb", type=float, default=40, help="growth that is too much")
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    with contextlib.ExitStack() as stack:
        address = None
        faults = [kill_engine, kill_router, hang_raylet, damage_weights, lose_node]
        if options.minutes and program() is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rvtop-redis-")))
            address = stack.enter_context(redis(folder))
            faults.insert(3, kill_gcs)
        elif options.minutes:
            print("no redis-server: the head's GCS is not killed")
        if options.minutes:
            seconds = 60 * options.minutes
            wrong += asyncio.run(part("rsc", faults, seconds, options.every, options.limit_mb, address))
    if options.vllm_kills:
        seconds = options.vllm_kills * options.vllm_every
        limit = options.limit_mb
        wrong += asyncio.run(part("rvc", [kill_engine], seconds, options.vllm_every, limit, None))
    for line in wrong:
        print(f"soak: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
