"""The KV map in a session: whose events it reads, what it says and writes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

pytest.importorskip("zmq")

from kv_publisher import Publisher, removed, stored

from rvtop.contract.kv_lines import result_line
from rvtop.errors import UserError
from rvtop.results.kv import kv_summary
from rvtop.session.events import EventFeed
from rvtop.session.kv_watch import KvWatch, news_of, sources_of
from rvtop.stats.kv_map import EngineMap, KvMap, Locality, row_of
from rvtop.target.probe import TargetInfo, _kv_events
from rvtop.telemetry import kv_events
from rvtop.telemetry.kv_events import KvSource

HERE = "http://127.0.0.1:8000"


def info(*rows: dict[str, Any], url: str = HERE) -> TargetInfo:
    """A target that tells of its engines as ``/rvtop/topology`` does."""
    return TargetInfo(url, ("m",), "vllm", "vllm", kv_events=_kv_events(list(rows)))


def row(places: dict[str, str] | None, engine: str = "vllm-0") -> dict[str, Any]:
    return {"engine": engine, "model": "m", "kv_events": places}


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="rvtop-kv", dir="/tmp") as made:
        yield Path(made)


def test_only_sockets_of_our_engines_on_this_machine_are_read() -> None:
    ours = {"url": "ipc:///tmp/rvtop-eng-1/kv", "replay": "ipc:///tmp/rvtop-eng-1/kv-replay"}
    assert sources_of(info(row(ours))) == [KvSource("vllm-0", ours["url"], ours["replay"], "m")]
    assert sources_of(info(row(ours), url="http://10.0.0.7:8000")) == []
    for other in (
        None,
        {"url": "tcp://10.0.0.7:22"},
        {"url": "ipc:///var/run/docker.sock"},
        {**ours, "replay": "ipc:///var/run/docker.sock"},
        {"url": 7},
    ):
        assert sources_of(info(row(other))) == []
    assert _kv_events("no list") == ()
    assert _kv_events([7, {"kv_events": ours}]) == ()  # no engine is named


async def test_a_session_reads_notes_and_follows_its_target(folder: Path) -> None:
    publisher, feed = Publisher(folder), EventFeed(lambda event: None)
    watch = KvWatch((), feed)
    target = info(row({"url": publisher.url, "replay": publisher.replay}))
    watch.start(target)
    try:
        publisher.until_joined()
        publisher.publish(stored("a b"))
        end, line = time.monotonic() + 60, {}
        while not line.get("kv_map", {}).get("cached"):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
            watch.note(line)
        assert line["kv_map"]["complete"]
        assert [event.text for event in feed.events] == [
            "KV map: reads the events of an engine; key 6 shows it"
        ]
        await watch.move(info(url="http://127.0.0.1:9000"))
        assert watch.picture is None
        line = {}
        watch.note(line)
        assert line == {}
    finally:
        await watch.stop()
        publisher.close()


async def test_sources_of_the_command_line_belong_to_the_first_target(folder: Path) -> None:
    publisher = Publisher(folder)
    publisher.publish(removed("a"))
    watch = KvWatch([KvSource("kv0", publisher.url)], EventFeed(lambda event: None))
    watch.start(info())
    assert watch.picture is not None
    await watch.move(info(url="http://127.0.0.1:9000"))
    assert watch.picture is None
    await watch.move(info())
    assert [engine.name for engine in watch.picture.engines] == ["kv0"]
    await watch.stop()
    publisher.close()


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from rvtop.cli.transport import kv_sources

    monkeypatch.setattr(kv_events, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--kv-events-url: pyzmq and msgspec not installed; pip install"):
        kv_sources(["tcp://h:5557"])
    assert kv_sources(None) == ()


def test_what_is_said_once() -> None:
    before = EngineMap("e", cached=80, complete=True)
    torn = replace(before, lost=2, complete=False, restarts=1, storm=True, back_share=0.4)
    texts = [text for text, _ in news_of(before, torn)]
    assert texts == [
        "2 batches of KV events lost; its KV map is incomplete until the cache is reset",
        "publishes anew; its KV map begins empty",
        "eviction storm: in 10 s half of its 80 cached blocks and more were evicted; 40 % of those stored "
        "had been evicted before",
    ]
    assert news_of(torn, torn) == []


def test_the_summary_s_block() -> None:
    def second(t_s: float, cached: int, evicted: float, requests: int, hits: int) -> dict[str, Any]:
        engine = EngineMap(
            "e", cached=cached, shared=3, evicted_per_s=evicted, requests=requests, hits=hits, complete=True
        )
        kv = KvMap((engine, EngineMap("f", complete=True)), Locality(requests, hits, True))
        return {"t_s": t_s, "kv_map": row_of(kv)}

    rows = [second(1, 10, 4.0, 10, 0), second(2, 30, 8.0, 20, 4), {"t_s": 3}, second(9, 99, 99.0, 99, 99)]
    block = kv_summary(rows, [(0.0, 5.0)])
    assert block == {
        "engines": 2,
        "cached": {"mean": 20.0, "max": 30},
        "shared_max": 3,
        "evicted_per_s": {"mean": 6.0, "max": 8.0},
        "storm_s": 0,
        "hit_share": 0.4,
        "top_share": None,
        "locality": 0.4,
        "lost": 0,
        "complete": True,
    }
    assert kv_summary(rows, [(3.0, 5.0)]) is None
    assert result_line(None) == ""
    assert result_line(block) == (
        "KV map: cached 20 blocks (max 30), shared at most 3, evicted 6/s (max 8), hits at least 40 %, "
        "top prefix --, locality 40 %"
    )


def test_shares_of_a_run_that_went_over_to_another_server() -> None:
    told = [(10, 5), (1000, 500), (20, 18), (200, 180)]  # the second server's counters begin anew
    known = dict.fromkeys(("engines", "cached", "shared", "storms", "lost"), 1)
    unknown = dict.fromkeys(("evicted_per_s", "top_share", "offered", "taken"))
    rows = [
        {"t_s": float(t), "kv_map": {**known, **unknown, "complete": True, "requests": asked, "hits": hits}}
        for t, (asked, hits) in enumerate(told)
    ]
    block = kv_summary(rows, [(0.0, 9.0)])
    assert block is not None
    assert block["hit_share"] == (495 + 180) / (990 + 200)
