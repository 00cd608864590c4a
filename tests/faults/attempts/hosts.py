"""Where a server may live: IPv6 alone, names with several addresses, zones, sockets that vanish."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from rvtop.load.wire.endpoint import Address
from tests.faults.attempts import Skip, attempt
from tests.faults.attempts.cli import folder, long_run, mock, ran, stopped
from tests.faults.attempts.network import ip, network, own
from tests.faults.attempts.said import STREAM, chunked
from tests.faults.attempts.wire import ask, heard, serving, write
from tests.mock.faulty import FaultyServer, blackhole_port, refusing_port


def _ipv6() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            raise Skip(f"this machine has no IPv6: {error}") from error


@attempt("a run on [::1]")
def hosts_ipv6_loopback() -> None:
    _ipv6()
    with mock(host="::1") as server:
        done = ran(server.url)
    assert done.ok > 5 and not done.errors
    assert done.summary["target"] == server_url(done, "::1")


def server_url(done, host: str) -> str:  # type: ignore[no-untyped-def]
    url = str(done.summary["target"])
    assert f"[{host}]" in url, url
    return url


@attempt("a name that is ::1 only", own_network=True)
def hosts_name_of_ipv6_only() -> None:
    network("::1 six\n127.0.0.1 localhost\n")
    _ipv6()
    with mock(host="::1") as server:
        done = ran(server.url.replace("[::1]", "six"))
    assert done.ok > 5 and not done.errors


@attempt("a name of two addresses: nobody listens at the first", own_network=True)
def hosts_first_address_refuses() -> None:
    network("::1 both\n127.0.0.1 both\n")
    with mock() as server:
        done = ran(server.url.replace("127.0.0.1", "both"))
    assert done.ok > 5 and not done.errors


@attempt("a name of two addresses: the first one swallows what is sent there", own_network=True)
def hosts_first_address_swallows() -> None:
    network("::1 both\n127.0.0.1 both\n")
    with blackhole_port("::1") as port, mock(port=port):
        done = ran(f"http://both:{port}", limit_s=80)
    assert done.ok > 5 and not done.errors, done.errors


@attempt("a link-local address with its zone", own_network=True)
def hosts_zone() -> None:
    network()
    ip("-6", "addr", "add", "fe80::77/64", "dev", "lo", "nodad")
    with mock(host="fe80::77%lo") as server:
        port = server.port
        for written in ("fe80::77%25lo", "fe80::77%lo"):
            done = ran(f"http://[{written}]:{port}")
            assert done.ok > 5 and not done.errors, (written, done.errors)


@attempt("a zone that there is none of")
def hosts_zone_unknown() -> None:
    ran("http://[fe80::1%25nosuch0]:8000", code=3, says="nosuch0")


@attempt("a name that nobody knows: one line", own_network=True)
def hosts_name_unknown() -> None:
    network()
    ran("http://no-such-host.invalid:8000", code=3, says="no-such-host.invalid")


@attempt("a name whose look-up fails later: the run goes on with what it knows", own_network=True)
def hosts_name_fails_later() -> None:
    network("127.0.0.1 once\n")
    with mock() as server:
        process, run = long_run(server.url.replace("127.0.0.1", "once"))
        own()
        subprocess.run(["umount", "/etc/hosts"], check=True)
        before = len((run / "requests.jsonl").read_bytes().splitlines())
        while len((run / "requests.jsonl").read_bytes().splitlines()) < before + 40:
            time.sleep(0.05)
        done = stopped(process, run)
    assert not {"dns", "refused"} & set(done.errors), done.errors


@attempt("a host of 300 letters, one with spaces, one of dots: one line each")
def hosts_impossible() -> None:
    for host in ("x" * 300, "a..b", "-", "[::1", "[::g]", "1.2.3.4.5", "host name"):
        done = ran(f"http://{host}:8000", code=2 if host in ("[::1", "[::g]", "x" * 300, "a..b") else 3)
        assert done.err.startswith("rvtop: ") and len(done.err.splitlines()) == 1


@attempt("a unix socket that vanishes under load, and comes back")
def hosts_socket_vanishes() -> None:
    path = str(folder() / "s")
    with FaultyServer(unix=path):
        process, run = long_run("http://localhost", "--unix-socket", path)
        os.unlink(path)
        time.sleep(1)
        done = stopped(process, run)
    assert done.ok > 5
    assert set(done.errors) <= {"refused", "cancelled"}, done.errors


@attempt("a unix socket that is a file, a folder, and one that nobody listens at")
def hosts_socket_is_none() -> None:
    place = folder()
    (place / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place / "dead"))
        for name in ("file", ".", "dead", "none", "x" * 200):
            ran("http://localhost", "--unix-socket", place / name, code=3, says="rvtop: ")


@attempt("the server begins to listen only when the load runs: refused, then ok")
def hosts_comes_late() -> None:
    async def go() -> None:
        with refusing_port() as port:
            (record,) = await ask(Address(f"http://127.0.0.1:{port}"))
            assert record.error == "refused"

    uvloop.run(go())


@attempt("connecting never ends: timeout_connect after the limit, as often as it is tried")
def hosts_black_hole() -> None:
    async def go(port: int) -> None:
        ended = await ask(Address(f"http://127.0.0.1:{port}"), 3, (0.2, 50, 50))
        assert [r.error for r in ended] == ["timeout_connect"] * 3

    with blackhole_port() as port:
        uvloop.run(go(port))
        ran(f"http://127.0.0.1:{port}", code=3, says="no answer within")


@attempt("a listener whose backlog is full takes the load once it accepts")
def hosts_backlog_full() -> None:
    async def go() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        asked = asyncio.create_task(ask(Address(f"http://127.0.0.1:{port}"), 2))
        await asyncio.sleep(0.5)
        for filler in fillers:
            filler.close()

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await heard(reader)
                    await write(writer, chunked(STREAM))
            except asyncio.IncompleteReadError:
                writer.close()

        async with await asyncio.start_server(one, sock=listener):
            assert [r.error for r in await asked] == [None, None]

    uvloop.run(go())


@contextmanager
def proxy_that_counts() -> Iterator[tuple[str, list[int]]]:
    """A port that notes who connects, and refuses to do anything."""
    seen: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    taken, _ = listener.accept()
                    seen.append(1)
                    taken.close()
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@attempt("http_proxy and all_proxy in the environment: no request and no page goes there")
def hosts_proxy_in_the_environment() -> None:
    with proxy_that_counts() as (url, seen), mock() as server:
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY")
        done = ran(server.url, env={**dict.fromkeys(names, url), "no_proxy": ""})
        assert done.ok > 5 and not done.errors
        assert seen == []
    sources = (done.run / "timeline.jsonl").read_text()
    assert "refused" not in sources


async def _three(port: int) -> list[str]:
    return [r.error or "ok" for r in await ask(Address(f"http://localhost:{port}"), 3)]


@attempt("localhost, when the server is on one of its two addresses only")
def hosts_localhost() -> None:
    async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await heard(reader)
            await write(writer, chunked(STREAM))

    async def go(host: str) -> None:
        async with serving(good, host) as port:
            assert await _three(port) == ["ok"] * 3

    uvloop.run(go("127.0.0.1"))
    found = {info[4][0] for info in socket.getaddrinfo("localhost", 1)}
    if "::1" in found:
        uvloop.run(go("::1"))
