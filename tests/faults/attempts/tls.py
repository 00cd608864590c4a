"""TLS that stalls, breaks, lies or is old; each at the load and at the first look (``target.probe``)."""

from __future__ import annotations

import asyncio
import datetime
import functools
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
from pathlib import Path

import uvloop

import rvtop.target.probe
from rvtop.load.wire.endpoint import address_of
from rvtop.net.transport import Transport
from rvtop.target.probe import TargetError, probe
from tests.faults.attempts import Skip, attempt
from tests.faults.attempts.cli import folder, started, until
from tests.faults.attempts.said import STREAM, chunk, chunked, head
from tests.faults.attempts.wire import LONG, Serve, ask, heard, serving, write
from tests.mock.faulty import FaultyServer

PATH = "/v1/chat/completions"


@functools.cache
def papers():  # type: ignore[no-untyped-def]
    """An authority. Raises Skip without trustme."""
    try:
        import trustme
    except ImportError as error:
        raise Skip("trustme is not installed") from error
    return trustme.CA()


def context(*names: str, expired: bool = False, ca=None) -> ssl.SSLContext:  # type: ignore[no-untyped-def]
    """A server's."""
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    more = {"not_after": past} if expired else {}
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (ca or papers()).issue_cert(*(names or ("127.0.0.1",)), **more).configure_cert(made)
    return made


def trusting() -> Transport:
    path = folder() / "ca.pem"
    papers().cert_pem.write_to_path(str(path))
    return Transport(ca_file=str(path))


async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await heard(reader)
        await write(writer, chunked(STREAM))


def ends(url: str, way: Transport, count: int = 1, limits: tuple[float, float, float] = LONG) -> list[str]:
    """How requests end at a server of another thread or process."""
    return [r.error or "ok" for r in uvloop.run(ask(address_of(url, PATH, None, way), count, limits))]


def load(
    serve: Serve, end: str, tls: ssl.SSLContext | None = None, says: str = "", connect_s: float = 50
) -> None:
    """Two requests over https at ``serve`` end in ``end``; of text, ``says``."""

    async def go() -> None:
        async with serving(serve, tls=tls) as port:
            address = address_of(f"https://127.0.0.1:{port}", PATH, None, way)
            for record in await ask(address, 2, (connect_s, 50, 50)):
                assert (record.error or "ok") in end.split("|"), f"{record.error}: {record.error_text}"
                assert says in record.error_text, record.error_text

    way = trusting()
    uvloop.run(go())


def looked(serve: Serve, says: str, tls: ssl.SSLContext | None = None, limit_s: float = 1.0) -> None:
    """A first look over https at ``serve`` is refused in one line that holds ``says``."""

    async def go() -> None:
        async with serving(serve, tls=tls) as port:
            try:
                await probe(f"https://127.0.0.1:{port}", way)
            except TargetError as error:
                assert says in str(error) and "\n" not in str(error), str(error)
                assert error.exit_code == 3
            else:
                raise AssertionError("it was taken")

    way, before = trusting(), rvtop.target.probe._PROBE_TIMEOUT_S
    rvtop.target.probe._PROBE_TIMEOUT_S = limit_s
    try:
        asyncio.run(go())
    finally:
        rvtop.target.probe._PROBE_TIMEOUT_S = before


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The head of a handshake record that promises 16 KB, then a byte now and then."""
    writer.write(b"\x16\x03\x03\x40\x00")
    while True:
        writer.write(b"\0")
        await writer.drain()
        await asyncio.sleep(0.05)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)
    writer.write(b"\xff" * 100)
    await reader.read(4096)


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    await reader.read(4096)


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@attempt("accepts and says nothing in the handshake: timeout_connect")
def tls_stalls() -> None:
    load(says_nothing, "timeout_connect", connect_s=0.3)
    looked(says_nothing, "no answer within", limit_s=0.3)


@attempt("drips a handshake record a byte at a time: timeout_connect")
def tls_drips() -> None:
    load(drips, "timeout_connect", connect_s=0.3)
    looked(drips, "no", limit_s=0.3)


@attempt("answers the handshake with garbage: tls")
def tls_garbage() -> None:
    load(garbage, "tls")
    looked(garbage, "TLS")


@attempt("speaks plain HTTP on the port: tls, and it says so")
def tls_plain_http() -> None:
    load(plain, "tls")
    looked(plain, "http://")


@attempt("closes in the middle of the handshake")
def tls_closes_half_way() -> None:
    load(closes, "tls|reset")
    looked(closes, "127.0.0.1")


@attempt("resets in the middle of the handshake")
def tls_resets_half_way() -> None:
    load(resets, "reset|tls")
    looked(resets, "reset the connection")


@attempt("a certificate that has expired: tls, and it says so")
def tls_expired() -> None:
    load(good, "tls", context(expired=True), "expired")
    looked(good, "expired", context(expired=True))


@attempt("a certificate of another host: tls, and it says so")
def tls_wrong_host() -> None:
    load(good, "tls", context("elsewhere.example"))
    looked(good, "not valid for", context("elsewhere.example"))


@attempt("a certificate of another authority: tls, and --ca is named")
def tls_unknown_authority() -> None:
    import trustme

    other = trustme.CA()
    load(good, "tls", context(ca=other))
    looked(good, "--ca FILE", context(ca=other))


@attempt("TLS 1.0 only: refused, also where the alert is lost to a reset")
def tls_1_0_only() -> None:
    old = context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1
    load(good, "tls|reset", old)
    looked(good, "127.0.0.1", old)


@attempt("an https server asked over http: bad_stream or reset, one line")
def tls_asked_plainly() -> None:
    async def go() -> None:
        async with serving(good, tls=context()) as port:
            (record,) = await ask(address_of(f"http://127.0.0.1:{port}", PATH, None, Transport()))
            assert record.error in ("reset", "bad_stream"), record.error

    uvloop.run(go())


@attempt("TLS 1.2 with session tickets off, three requests over one connection")
def tls_1_2() -> None:
    old = context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.options |= ssl.OP_NO_TICKET
    load(good, "ok", old)


@attempt("the TCP connection is cut in the middle of a record: reset or truncated")
def tls_cut_in_a_record() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(head(b"transfer-encoding: chunked") + chunk(STREAM[:150]))
        await writer.drain()
        sock = writer.get_extra_info("socket")
        os.write(sock.fileno(), b"\x17\x03\x03\x01\x00abc")  # a record that promises 256 bytes
        await asyncio.sleep(0.05)
        writer.transport.abort()

    load(cut, "truncated|reset|tls", context())


@attempt("a record with a broken MAC: an error, not a hang")
def tls_broken_mac() -> None:
    async def spoil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(head(b"transfer-encoding: chunked") + chunk(STREAM[:150]))
        await writer.drain()
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await reader.read(10)

    load(spoil, "truncated|reset|tls", context())


@attempt("a body that ends with the connection, with and without close_notify")
def tls_ends_with_the_connection() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(head() + STREAM)
        await writer.drain()

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await leave(reader, writer)
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as bare:
            bare.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.1)

    load(leave, "ok", context())
    load(vanish, "ok", context())


@attempt("one byte a write over TLS: a record for each")
def tls_drips_an_answer() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await heard(reader)
            await write(writer, chunked(STREAM), 1)

    load(drip, "ok", context())


@attempt("a key update (1.3) and a renegotiation (1.2) in the middle of an answer")
def tls_changes_keys() -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise Skip("there is no openssl program")
    place = folder()
    issued = papers().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(place / "both.pem"))
    way = trusting()
    for version, order, wanted in (("-tls1_3", b"K\n", {"ok"}), ("-tls1_2", b"R\n", {"ok", "tls", "reset"})):
        port = _free_port()
        with tempfile.TemporaryFile() as said:
            server = started(
                subprocess.Popen(
                    [openssl, "s_server", "-accept", str(port), "-cert", place / "both.pem", version],
                    stdin=subprocess.PIPE,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
            )
            until(lambda port=port: _listens(port), "openssl s_server")
            assert server.stdin is not None

            async def go(server=server, order=order, port=port, said=said, wanted=wanted):  # type: ignore[no-untyped-def]
                asked = asyncio.create_task(
                    ask(address_of(f"https://127.0.0.1:{port}", PATH, None, way), 1, (9, 9, 9))
                )
                while b"x-request-id" not in _content(said).lower():
                    await asyncio.sleep(0.02)
                server.stdin.write(head() + STREAM[:200].rpartition(b"\n\n")[0] + b"\n\n")
                server.stdin.flush()
                await asyncio.sleep(0.3)
                server.stdin.write(order)
                server.stdin.flush()
                await asyncio.sleep(0.3)
                server.stdin.write(STREAM)
                server.stdin.flush()
                await asyncio.sleep(0.3)
                server.stdin.write(b"Q\n")
                server.stdin.flush()
                (record,) = await asked
                assert (record.error or "ok") in wanted, (order, record.error, record.error_text)

            uvloop.run(go())
            server.kill()
            server.wait()


def _content(file) -> bytes:  # type: ignore[no-untyped-def]
    return Path(f"/proc/self/fd/{file.fileno()}").read_bytes()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    rows = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    return any(
        row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A"
        for row in rows[1:]
        if "address" not in row
    )


@attempt("an expired authority's word: --insecure takes it, the run says nothing else")
def tls_insecure_takes_an_expired_one() -> None:
    with FaultyServer(tls=context(expired=True)) as server:
        assert ends(server.url("good"), Transport(insecure=True), 3) == ["ok"] * 3
