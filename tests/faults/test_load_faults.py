"""Every fault of a server ends in its class, the run ends, and the session goes on answering meanwhile."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import rvtop.session.load_target
import rvtop.session.target_watch
from rvtop.contract.command import Stop
from rvtop.load.fleet.workers import Workers
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import ERRORS, Record
from rvtop.load.wire.timeouts import Timeouts
from rvtop.target.probe import TargetInfo
from tests.faults.sessions import Watched, ask, errors_of, request
from tests.mock.faulty import FAULTS, OUTCOMES, FaultyServer, refusing_port

TIMEOUTS = ("timeout_connect", "timeout_ttft", "stalled")
BY_PORT = {"refused", "blackhole", "close_on_accept"}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def test_the_table_names_classes_that_exist() -> None:
    for name, outcome in OUTCOMES.items():
        assert outcome == "ok" or outcome in ERRORS or outcome.startswith("http_"), name
    assert set(OUTCOMES) == set(FAULTS)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_fault_ends_in_its_class(server: FaultyServer, name: str, path: str) -> None:
    before = server.requests[name]
    # Short limits where one of them must strike, endless ones where none may.
    limits = [0.3 if OUTCOMES[name] == kind else 50.0 for kind in TIMEOUTS]
    target = Endpoint(
        Address(server.url(name).partition(f"/{name}")[0], path if name in BY_PORT else f"/{name}{path}")
    )
    (record,) = await ask(target, (limits[0], limits[1], limits[2]))
    assert (record.error or "ok") == OUTCOMES[name], record.error_text
    if name not in BY_PORT:
        async with asyncio.timeout(240):
            while server.requests[name] == before:  # the server has not read it yet
                await asyncio.sleep(0.01)
        assert server.requests[name] == before + 1  # nothing is sent twice
    if record.error is None:
        assert record.first_ns >= record.sent_ns
        assert record.last_ns >= record.first_ns
        assert len(record.gaps) == record.chunks - 1
        assert record.tokens in (8, record.chunks)
    else:
        assert record.error_text
        assert "\n" not in record.error_text


async def test_what_a_server_says_stays_with_the_error(server: FaultyServer) -> None:
    base = server.url("good").partition("/good")[0]
    texts = {}
    for name in ("http_429", "error_event", "not_json", "dies_midstream", "redirect"):
        (record,) = await ask(Endpoint(Address(base, f"/{name}/v1/chat/completions")), (50, 50, 50))
        texts[name] = record.error_text
    assert "the queue is full" in texts["http_429"]
    assert texts["error_event"] == "CUDA error"
    assert "not json" in texts["not_json"]
    assert "closed the connection" in texts["dies_midstream"]


async def test_a_good_connection_is_kept_and_a_bad_one_is_not(server: FaultyServer) -> None:
    base = server.url("good").partition("/good")[0]
    for name, each in (("good", False), ("content_length", False), ("http_429", False), ("not_json", True)):
        before = server.connections
        await ask(Endpoint(Address(base, f"/{name}/v1/chat/completions")), (50, 50, 50), count=3)
        assert server.connections - before == (3 if each else 1), name


async def test_a_connection_that_the_server_closed_in_between_costs_nothing(server: FaultyServer) -> None:
    base = server.url("good").partition("/good")[0]
    target = Endpoint(Address(base, "/closes_idle/v1/chat/completions"))
    ended: list[Record] = []
    pool = ConnectionPool(target, ended.append)
    for number in range(3):
        record = Record(number, 0, 0, 0, 1)
        pool.submit(record, target.request(b'{"stream":true}', "x"))
        async with asyncio.timeout(240):
            while len(ended) == number or pool._open:  # until the server's FIN was seen
                await asyncio.sleep(0.005)
    assert [record.error for record in ended] == [None] * 3
    pool.close()


async def test_tls_is_checked_and_named(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with FaultyServer(tls=context) as server:
        base = server.url("good").partition("/good")[0]
        path = "/good/v1/chat/completions"
        (good,) = await ask(Endpoint(Address(base, path, ca_file=str(tmp_path / "ca.pem"))), (50, 50, 50))
        assert (good.error, good.chunks) == (None, 8)
        (unknown,) = await ask(Endpoint(Address(base, path)), (50, 50, 50))
        assert unknown.error == "tls"
        (plain,) = await ask(Endpoint(Address(base.replace("https", "http"), path)), (50, 50, 50))
        assert plain.error in ("reset", "bad_stream")
    for said, kinds in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", {"tls"}), (b"", {"tls", "reset"})):
        async with await asyncio.start_server(answer_at_once(said), "127.0.0.1", 0) as not_tls:
            port = not_tls.sockets[0].getsockname()[1]
            (other,) = await ask(Endpoint(Address(f"https://127.0.0.1:{port}")), (50, 50, 50))
            assert other.error in kinds


def answer_at_once(said: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A server that answers the first byte with ``said`` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)  # so that a close is a close and no race
        writer.write(said)
        writer.close()

    return serve


async def test_a_name_that_does_not_resolve_is_dns() -> None:
    (record,) = await ask(Endpoint(Address("http://nowhere.invalid")), (50, 50, 50))
    assert record.error == "dns"


async def test_ipv6_is_an_address_like_any_other() -> None:
    async with FaultyServer(host="::1") as server:
        base = server.url("good").partition("/good")[0]
        (record,) = await ask(Endpoint(Address(base, "/good/v1/chat/completions")), (50, 50, 50))
        assert record.error is None


# ---- whole sessions


def attach_to(monkeypatch: pytest.MonkeyPatch, url: str, *models: str) -> None:
    """Lets sessions believe that ``url`` serves ``models``, whatever it would say."""

    async def probe(asked: str, transport: object) -> TargetInfo:
        return TargetInfo(asked, models, None, None)

    monkeypatch.setattr(rvtop.session.load_target, "probe", probe)
    monkeypatch.setattr(
        rvtop.session.load_target, "choose_models", lambda info, wanted, unlisted: info.models
    )


async def test_every_fault_at_once_in_one_run(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them as models of one target: the run ends by itself, each fault is in its class, none spoils
    another."""
    names = [name for name in OUTCOMES if name not in BY_PORT]
    url = server.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, *(f"fault:{name}" for name in names))
    rounds = {"name": "all", "rounds": {"sizes": [1]}}  # a round of one is one to each model
    limits = Timeouts(connect_s=50.0, ttft_s=12.0, stall_s=12.0)
    watched = Watched(request(url, tmp_path / "run", rounds, timeouts=limits, workers=Workers(2)))
    outcome = await watched.end()
    assert (outcome.exit_code, outcome.message) == (0, "")
    summary = outcome.summary
    assert summary is not None
    assert [(p["name"], p["requests"]["planned"]) for p in summary["phases"]] == [("all/n=1#1", len(names))]
    for name in names:
        part = summary["by_model"][f"fault:{name}"]["requests"]
        expected = {} if OUTCOMES[name] == "ok" else {OUTCOMES[name]: 1}
        assert (part["planned"], part["errors"]) == (1, expected), name
    wanted = Counter(OUTCOMES[name] for name in names)
    ok = wanted.pop("ok")
    assert summary["requests"]["errors"] == dict(wanted)
    assert (summary["requests"]["ok"], watched.now.load.ok) == (ok, ok)
    assert errors_of(watched.now) == dict(wanted)
    assert len({picture.seq for picture in watched.seen}) > 20  # it was there to be looked at all the time


@pytest.mark.parametrize("workers", [1, 2])
async def test_refused_by_the_thousand(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}"
        attach_to(monkeypatch, url, "m")
        # However long it takes, it ends before the silence is long enough to give up.
        monkeypatch.setattr(rvtop.session.target_watch, "_SILENT_S", 600.0)
        steady = {"name": "p", "rate": 2000, "duration": "1500ms"}
        watched = Watched(request(url, tmp_path / "run", steady, workers=Workers(workers)))
        outcome = await watched.end()
    assert outcome.summary is not None
    assert outcome.summary["requests"] == {
        "planned": 3000,
        "sent": 3000,
        "ok": 0,
        "errors": {"refused": 3000},
        "dropped": 0,
    }
    assert (outcome.exit_code, outcome.summary["end"]["kind"]) == (1, "all_failed")
    assert len(watched.rows()) == 3000
    assert errors_of(watched.now) == {"refused": 3000}


async def test_a_target_that_nobody_hears_of_any_more_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rvtop.session.target_watch, "_SILENT_S", 0.5)
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}"
        attach_to(monkeypatch, url, "m")
        watched = Watched(request(url, tmp_path / "run", {"name": "p", "rate": 50, "duration": "10m"}))
        outcome = await watched.end()
    assert outcome.exit_code == 3
    assert outcome.message == f"{url}: the target is lost (nothing answers there any more)"
    assert outcome.summary is not None
    assert outcome.summary["requests"]["errors"]["refused"] >= 5
    assert watched.now.state == "lost"


async def test_a_server_that_never_answers_can_be_left_at_once(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:never_answers")
    watched = Watched(request(url, tmp_path / "run", {"name": "p", "rate": 50, "duration": "10m"}))
    await watched.until(lambda s: s.load.in_flight > 20, "requests hang")
    watched.send(Stop("interrupted"))
    outcome = await watched.end()
    assert outcome.exit_code == 130
    assert outcome.summary is not None
    counted = outcome.summary["requests"]
    assert counted["errors"] == {"cancelled": counted["planned"]}
    assert len(watched.rows()) == counted["planned"] > 20
    assert outcome.summary["kpm"]["completed_pct"] == 0.0
    assert outcome.summary["kpm"]["ttft_ms"] is None


async def test_what_hangs_after_the_drain_is_cut_and_the_run_goes_on(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:never_answers", "fault:good")
    phases = [{"name": name, "rate": 20, "duration": "500ms", "drain": "3s"} for name in ("a", "b")]
    watched = Watched(request(url, tmp_path / "run", *phases, workers=Workers(2)))
    outcome = await watched.end()
    assert outcome.exit_code == 0
    assert outcome.summary is not None
    assert [p["requests"]["errors"] for p in outcome.summary["phases"]] == [{"unfinished": 5}] * 2
    assert [p["requests"]["ok"] for p in outcome.summary["phases"]] == [5, 5]
    assert any("cut at the end of the drain" in event.text for event in watched.now.events)


async def test_a_missed_threshold_is_exit_code_1(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("good").partition("/good")[0]
    attach_to(monkeypatch, url, "fault:http_503", "fault:good")
    steady = {"name": "p", "rate": 20, "duration": "500ms"}
    watched = Watched(request(url, tmp_path / "run", steady, thresholds={"error_rate": 0.4}))
    outcome = await watched.end()
    assert (outcome.exit_code, outcome.message) == (1, "error_rate: 0.5 is above 0.4")
