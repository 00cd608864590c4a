"""A session's load goes over to another server: no request is lost or sent twice, and none goes astray."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rvtop.contract.command import CommandError, Pause, Resume, Retarget, SetRate, SetWorkload, Stop, Undo
from rvtop.load.fleet.workers import Workers
from rvtop.load.native.loader import PURE_ENV, native
from rvtop.session.rate_control import Done
from rvtop.session.warm_up import ROUNDS
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.faulty import FaultyServer
from tests.mock.process import MockProcess

PHASE = {"name": "a", "rate": 200, "duration": "10m", "drain": "120s", "arrivals": "poisson"}


@pytest.fixture
def mocks() -> Iterator[tuple[MockProcess, MockProcess]]:
    with (
        any_mock(ttft_ms=40, step_ms=5) as first,
        any_mock(ttft_ms=40, step_ms=5, models=("b", "c")) as second,
    ):
        yield first, second


async def done(answer: Done) -> Done:
    while answer.later is not None:
        answer = await answer.later
    return answer


def rows(watched: Watched, *names: str) -> list[dict[str, Any]]:
    return [row for row in watched.rows("commands.jsonl") if row["cmd"] in names]


@pytest.mark.parametrize("wire", ["C", "asyncio"])
async def test_each_request_goes_once_and_to_the_target_of_its_time(
    mocks: tuple[MockProcess, MockProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    if wire == "asyncio":
        monkeypatch.setenv(PURE_ENV, "1")
    elif not native():
        pytest.skip("without the extension in C")
    first, second = (mock.url for mock in mocks)
    watched = Watched(request(first, tmp_path / "run", PHASE, workers=Workers(2)))
    draw, follow = Random(5), watched.session.commands.follow
    await watched.until(lambda s: s.load.ok, "the load")
    follow(SetRate(400.0), "control")
    for url in (second, first, second):
        await asyncio.sleep(draw.uniform(0.3, 0.6))
        text = (await done(follow(Retarget(url), "control"))).text
        assert text.startswith(f"requests go to {url}")
        assert watched.now.target is not None
        assert watched.now.target.url == url
        assert watched.now.load.target_rps == 400.0
        ok = watched.now.load.ok
        await watched.until(lambda s, ok=ok: s.load.ok > ok + 100, "load there")
    assert watched.now.target.models == ("b", "c")
    live = watched.session._load.live  # a stop cancels whatever is in flight, also there
    await watched.until(lambda s: not any(map(live.in_flight_at, range(3))), "the answers of before")
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    log = [mock.stop() for mock in mocks]

    requests = sorted(watched.rows(), key=lambda row: row["id"])
    assert [row["id"] for row in requests] == list(range(len(requests)))
    switches = rows(watched, "target")
    assert [(row["index"], row["url"]) for row in switches] == [
        (1, second),
        (2, first),
        (3, second),
    ]
    assert switches[0]["models"] == ["b", "c"]
    phases, rates = rows(watched, "phase"), rows(watched, "rate")
    assert [row["name"] for row in phases] == ["a", "a#target-2", "a#target-3", "a#target-4"]
    assert [row["at_ns"] for row in switches] == [row["at_ns"] for row in phases[1:]]
    assert [(row["at_ns"], row["value"]) for row in rates[1:]] == [(row["at_ns"], 400.0) for row in switches]
    for row in requests:
        number = sum(row["intended_ns"] >= switch["at_ns"] for switch in switches)
        assert row.get("target", 0) == number
        assert row["phase"] == phases[number]["name"]
        assert row["model"] in (("mock",), ("b", "c"))[number % 2]
    for each, name in enumerate(("first", "second")):
        seen = [one for one in log[each].id if not one.startswith("rvtop-warm-up-")]
        ours = [row for row in requests if row.get("target", 0) % 2 == each]
        assert len(seen) == len(set(seen)), name
        assert set(seen) <= {f"rvtop-{row['id']}" for row in ours}, name
        assert set(seen) >= {f"rvtop-{row['id']}" for row in ours if row["error"] is None}, name
        warm = len(log[each].id) - len(seen)
        assert warm == (ROUNDS, 2 * 2 * ROUNDS)[each]
    # What was in flight at a switch ended where it was.
    assert {row["error"] for row in requests if row.get("target", 0) < 3} == {None}
    summary = outcome.summary
    assert summary is not None
    assert [phase["name"] for phase in summary["phases"]] == [row["name"] for row in phases]
    assert set(summary["by_model"]) == {"mock", "b", "c"}
    assert sum(part["requests"]["ok"] for part in summary["by_model"].values()) == summary["requests"]["ok"]


async def test_a_server_that_is_no_use_leaves_the_load_where_it_is(
    mocks: tuple[MockProcess, MockProcess], tmp_path: Path
) -> None:
    first, second = mocks
    watched = Watched(request(first.url, tmp_path / "run", PHASE))
    follow = watched.session.commands.follow
    with pytest.raises(CommandError, match="the load has not begun"):
        follow(Retarget(second.url), "control")
    await watched.until(lambda s: s.load.ok, "the load")
    async with FaultyServer() as faulty:
        for command, says in (
            (Retarget("http://127.0.0.1:1"), "retarget: http://127.0.0.1:1: "),
            (Retarget("ftp://x"), "retarget: ftp://x: not an http URL"),
            (Retarget(second.url, ("d",)), "serves no model 'd'; it serves: b, c"),
            (Retarget(faulty.url("http_503").partition("/v1")[0]), "retarget: "),
        ):
            with pytest.raises(CommandError) as failed:
                await done(follow(command, "control"))
            assert says in str(failed.value)
            await asyncio.sleep(0)
            assert (str(failed.value), "warn") in [(e.text, e.level) for e in watched.now.events]
    going = follow(Retarget(second.url), "control")
    with pytest.raises(CommandError, match="the load is on its way to another server already"):
        follow(Retarget(second.url), "control")
    await done(going)
    assert (await done(follow(Undo(), "control"))).text.startswith(
        f"undone: retarget: requests go to {first.url}"
    )
    assert watched.now.target is not None
    assert watched.now.target.models == ("mock",)
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0
    assert [row["url"] for row in rows(watched, "target")] == [second.url, first.url]


async def test_a_paused_load_and_other_lengths_go_along(
    mocks: tuple[MockProcess, MockProcess], tmp_path: Path
) -> None:
    first, second = mocks
    watched = Watched(request(first.url, tmp_path / "run", PHASE))
    follow = watched.session.commands.follow
    await watched.until(lambda s: s.load.ok, "the load")
    await done(follow(SetWorkload(3, 40), "control"))
    follow(Pause(), "control")
    await watched.until(lambda s: s.state == "paused" and not s.load.in_flight, "the pause")
    await done(follow(Retarget(second.url, ("c",)), "control"))
    assert watched.now.state == "paused"
    sent = watched.now.load.sent
    await asyncio.sleep(0.3)
    assert watched.now.load.sent == sent
    await done(follow(Undo(), "control"))  # the retarget
    assert watched.now.target is not None
    assert watched.now.target.url == first.url
    await done(follow(Retarget(second.url, ("c",)), "control"))
    follow(Resume(), "control")
    ok = watched.now.load.ok
    await watched.until(lambda s: s.load.ok > ok + 20, "the load there")
    watched.send(Stop())
    assert (await watched.end()).exit_code == 0
    there = [row for row in watched.rows() if row.get("target") == 3 and row["error"] is None]
    assert len(there) > 20
    assert {(row["model"], row["output_tokens"]) for row in there} == {("c", 3)}


async def test_a_backend_that_was_left_may_end(tmp_path: Path) -> None:
    """So may any server: what watches it goes along."""
    with any_mock(ttft_ms=5, step_ms=1) as second:
        with any_mock(ttft_ms=5, step_ms=1) as first:
            watched = Watched(request(first.url, tmp_path / "run", PHASE))
            await watched.until(lambda s: s.load.ok, "the load")
            await done(watched.session.commands.follow(Retarget(second.url), "control"))
            await watched.until(lambda s: s.load.in_flight < 20, "the old answers")
        ok = watched.now.load.ok
        await watched.until(lambda s: s.load.ok > ok + 500, "load without the first server")
        assert watched.now.target_down_s is None
        watched.send(Stop())
        outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    totals = [row["totals"] for row in watched.rows("timeline.jsonl")]
    for before, after in pairwise(totals):
        assert all(after[name] >= total for name, total in before.items())
