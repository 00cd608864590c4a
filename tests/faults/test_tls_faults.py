"""TLS that is refused, cut off, changes its keys or ends badly under a load, at real servers."""

from __future__ import annotations

import array
import asyncio
import datetime
import fcntl
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from rvtop.load.wire.endpoint import Address
from rvtop.load.wire.record import Record
from tests.faults.attempts.said import STREAM, THREE, chunked, head, token
from tests.faults.attempts.wire import BODY, LONG, Serve, ask, heard, reading, serving, ways, write
from tests.mock.fast import any_mock
from tests.mock.haproxy import proxied

trustme = pytest.importorskip("trustme")

HOST = "127.0.0.1"


@dataclass
class Papers:
    """An authority and its file."""

    authority: Any
    ca: str

    def server(self, name: str = HOST, **more: Any) -> ssl.SSLContext:
        """A server's context with a certificate for ``name``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name, **more).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("papers") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return Papers(authority, str(path))


@pytest.fixture(params=ways(), ids=lambda pure: "asyncio" if pure else "C", autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each way of reading."""
    with reading(request.param):
        yield


def ended(
    serve: Serve,
    papers: Papers,
    tls: ssl.SSLContext | None,
    count: int = 1,
    limits: tuple[float, float, float] = LONG,
    body: bytes = BODY,
) -> list[Record]:
    """How requests to ``serve`` over https end."""

    async def go() -> list[Record]:
        async with serving(serve, tls=tls) as port:
            return await ask(Address(f"https://{HOST}:{port}", ca_file=papers.ca), count, limits, body)

    return uvloop.run(go())


async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await heard(reader)
        await write(writer, chunked(STREAM))


@pytest.mark.parametrize("fault", ["another authority", "another host", "expired"])
def test_a_bad_certificate_is_told(papers: Papers, fault: str) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    server, says = {
        "another authority": (Papers(trustme.CA(), "").server(), "unable to get local issuer"),
        "another host": (papers.server("elsewhere.example"), "IP address mismatch"),
        "expired": (papers.server(not_after=past), "expired"),
    }[fault]
    for record in ended(good, papers, server, 2):
        assert record.error == "tls"
        assert "its certificate is not trusted" in record.error_text
        assert says in record.error_text


def test_a_handshake_that_is_cut_off_is_told(papers: Papers) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"\x16\x03\x03\x40\x00")  # a record that promises 16 KB
        await writer.drain()

    (record,) = ended(closes, papers, None)
    assert record.error == "reset"
    assert record.error_text == "the server closed the connection in the TLS handshake"


def test_a_handshake_that_stalls_is_a_connect_timeout(papers: Papers) -> None:
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass

    (record,) = ended(stalls, papers, None, limits=(0.1, 50, 50))
    assert record.error == "timeout_connect"


@pytest.mark.parametrize("notify", [True, False])
@pytest.mark.parametrize(
    ("said", "with_notify", "without"),
    [
        (head() + STREAM, None, None),  # [DONE] came: what follows does not matter
        (head() + THREE[:-1], None, "truncated"),  # the last event is without its blank line
        (head() + token("a"), "truncated", "truncated"),
        (head(b"transfer-encoding: chunked") + b"5\r\ndata:", "truncated", "truncated"),
    ],
)
def test_a_body_without_a_length_ends_with_close_notify(
    papers: Papers, said: bytes, with_notify: str | None, without: str | None, notify: bool
) -> None:
    """And was cut without it: whoever stands between can close a TCP connection."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(said)
        await writer.drain()
        if not notify:
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as bare:
                bare.shutdown(socket.SHUT_WR)
            await reader.read()

    for record in ended(leave, papers, papers.server(), 2):
        assert record.error == (with_notify if notify else without), record.error_text


def test_a_record_that_is_spoiled_ends_the_request(papers: Papers) -> None:
    async def spoil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        await write(writer, head(b"transfer-encoding: chunked") + b"5\r\ndata:\r\n")
        await writer.drain()
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await reader.read()

    (record,) = ended(spoil, papers, papers.server())
    assert (record.error, record.error_text) == ("reset", "the connection broke (SSLError)")


def test_a_request_that_the_socket_does_not_take_at_once_arrives_whole(papers: Papers) -> None:
    body = b'{"stream":true,"x":"%b"}' % (b"x" * (6 << 20))
    sizes = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(0.05)
            sizes.append(len(await heard(reader)))
            await write(writer, chunked(STREAM))

    records = ended(slow, papers, papers.server(), 3, body=body)
    assert [(record.error, record.chunks) for record in records] == [(None, 3)] * 3
    assert sizes == [len(body)] * 3


def test_a_record_for_each_byte_and_one_of_many_reads(papers: Papers) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for cut in (1, 7, 0):
            await heard(reader)
            await write(writer, chunked(token("가" * 9000), STREAM), cut if cut != 1 else 31)
        await reader.read()

    assert [(r.error, r.chunks) for r in ended(drip, papers, papers.server(), 3)] == [(None, 4)] * 3


def test_tls_1_2_is_read_alike(papers: Papers) -> None:
    server = papers.server()
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    assert [(r.error, r.chunks) for r in ended(good, papers, server, 5)] == [(None, 3)] * 5


class Openssl:
    """``openssl s_server``: what is written to it goes to the client, and a line of one letter is an order.
    Nothing is written while it has not read what was before: it knows orders by where a read begins."""

    def __init__(self, papers: Papers, folder: Path, version: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("there is no openssl program")
        pem = folder / "both.pem"
        papers.authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(pem))
        with socket.create_server((HOST, 0)) as found:
            self.port = found.getsockname()[1]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end
        command = [program, "s_server", "-accept", f"{HOST}:{self.port}", "-cert", str(pem), version]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._said, stderr=subprocess.STDOUT
        )

    async def until(self, words: bytes, count: int = 1) -> None:
        """Until it has said this so often."""
        async with asyncio.timeout(60):
            while os.pread(self._said.fileno(), 1 << 20, 0).count(words) < count:
                assert self._process.poll() is None
                await asyncio.sleep(0.01)

    async def tell(self, data: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(data)
        stdin.flush()
        waiting = array.array("i", [1])
        async with asyncio.timeout(60):
            while waiting[0]:
                await asyncio.sleep(0.01)
                fcntl.ioctl(stdin.fileno(), termios.FIONREAD, waiting)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()


@pytest.mark.parametrize(
    ("version", "order"),
    [("-tls1_3", b"k\n"), ("-tls1_3", b"K\n"), ("-tls1_2", b"r\n")],
    ids=["keys of the server's", "keys of both", "renegotiation"],
)
def test_keys_may_change_in_the_middle_of_an_answer(
    papers: Papers, tmp_path: Path, version: str, order: bytes
) -> None:
    """The next request goes over the same connection, by the new keys."""
    server = Openssl(papers, tmp_path, version)

    async def answer(number: int) -> None:
        wire = chunked(STREAM)
        await server.until(b"t-%d" % number)
        await server.tell(wire[:200])
        await server.tell(order)
        await server.tell(wire[200:])

    async def go() -> list[Record]:
        await server.until(b"ACCEPT")
        answers = asyncio.create_task(answer_all())
        records = await ask(Address(f"https://{HOST}:{server.port}", ca_file=papers.ca), 3)
        await answers
        return records

    async def answer_all() -> None:
        for number in range(3):
            await answer(number)

    try:
        records = uvloop.run(go())
    finally:
        server.end()
    assert [(record.error, record.error_text, record.chunks) for record in records] == [(None, "", 3)] * 3


def test_a_proxy_that_ends_tls_changes_nothing(tmp_path: Path) -> None:
    with (
        any_mock(ttft_ms=5, step_ms=1, tokens=20) as mock,
        proxied(mock.url, tmp_path, "option http-no-delay", tls=True) as proxy,
    ):
        for url in (proxy.url, proxy.https):
            records = uvloop.run(ask(Address(url, ca_file=proxy.ca), 5))
            assert [(record.error, record.chunks) for record in records] == [(None, 20)] * 5
