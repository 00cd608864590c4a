"""TLS, client certificates, unix sockets, IPv6, prefixes, headers and fields, at servers that check them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import rvtop.target.probe
from rvtop.load.wire.endpoint import Endpoint as LoadTarget
from rvtop.load.wire.endpoint import address_of
from rvtop.net.transport import Transport, TransportError
from rvtop.target.probe import TargetError, answers, base_url, probe
from rvtop.telemetry.discover import sources_for
from rvtop.telemetry.prometheus import PrometheusSource
from tests.faults.sessions import ask, content, unlimited
from tests.mock.faulty import FaultyServer

trustme = pytest.importorskip("trustme")

PATH = "/v1/chat/completions"
LONG = (50.0, 50.0, 50.0)


@dataclass
class Papers:
    """An authority, and certificates of it, as files."""

    ca: str
    cert: str
    key: str
    server: ssl.SSLContext  # asks nothing of clients
    strict: ssl.SSLContext  # wants their certificate


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1", "localhost", "::1")
    client = authority.issue_cert("someone@example.org")
    client.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    client.private_key_pem.write_to_path(str(folder / "key.pem"))
    contexts = []
    for strict in (False, True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        if strict:
            context.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(context)
        contexts.append(context)
    names = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    return Papers(*names, *contexts)


@pytest.fixture
async def strict(papers: Papers) -> AsyncIterator[FaultyServer]:
    """A server that wants a client's certificate."""
    async with FaultyServer(tls=papers.strict) as server:
        yield server


def base(server: FaultyServer) -> str:
    return server.url("good").removesuffix("/good")


async def outcome(url: str, way: Transport, path: str = PATH) -> str:
    """How one request under load ends."""
    (record,) = await ask(LoadTarget(address_of(url, path, None, way)), LONG)
    if record.error is None:
        assert record.chunks == 8
    return record.error or "ok"


async def told(url: str, way: Transport) -> str:
    """What a probe says of a server that it refuses."""
    with pytest.raises(TargetError) as refused:
        await probe(url, way)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def page(url: str, way: Transport, key: str | None = None) -> str | None:
    """Why the metrics page of a target could not be had; None: it could."""
    source = sources_for(url, api_key=key, transport=way)[0]
    sample = await source.poll()
    await source.close()
    if sample.error is None:
        assert [engine.gauges["running"] for engine in sample.engines] == [3]
    return sample.error


async def test_a_certificate_is_asked_for_and_shown(strict: FaultyServer, papers: Papers) -> None:
    known = Transport(ca_file=papers.ca, cert_file=papers.cert, key_file=papers.key)
    assert await outcome(base(strict), known) == "ok"
    assert (await probe(base(strict), known)).models == ("mock",)
    assert await answers(base(strict), known)
    assert await page(base(strict), known) is None

    nobody = Transport(ca_file=papers.ca)
    # TLS 1.3 refuses behind the handshake, when our request is on its way: the alert may be lost to a reset.
    assert await outcome(base(strict), nobody) in ("tls", "reset")
    assert "--cert FILE" in await told(base(strict), nobody)
    assert not await answers(base(strict), nobody)
    assert await page(base(strict), nobody) is not None

    distrustful = Transport(cert_file=papers.cert, key_file=papers.key)
    assert await outcome(base(strict), distrustful) == "tls"
    assert "--ca FILE" in await told(base(strict), distrustful)
    assert "certificate" in (await page(base(strict), distrustful) or "")


@contextlib.contextmanager
def patient(context: ssl.SSLContext) -> Iterator[str]:
    """A server that refuses every handshake and then waits for the client to go, so that its alert arrives
    (a server that closes at once may lose it to a reset); its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the listener was shut down
                while True:
                    taken, _ = listener.accept()
                    spoken = context.wrap_socket(taken, server_side=True, do_handshake_on_connect=False)
                    with contextlib.suppress(ssl.SSLError):
                        spoken.do_handshake()
                    with socket.socket(fileno=spoken.detach()) as bare, contextlib.suppress(OSError):
                        while bare.recv(4096):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(120)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_is_missed_is_tls(version: ssl.TLSVersion, papers: Papers) -> None:
    papers.strict.maximum_version = version
    try:
        with patient(papers.strict) as url:
            assert await outcome(url, Transport(ca_file=papers.ca)) == "tls"
            assert "--cert FILE" in await told(url, Transport(ca_file=papers.ca))
    finally:
        papers.strict.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED


async def test_whom_nobody_vouches_for_is_trusted_only_when_told_so(papers: Papers, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with FaultyServer(tls=papers.server, unix=path) as server:
        url = base(server)
        assert await outcome(url, Transport()) == "tls"
        assert await outcome(url, Transport(insecure=True)) == "ok"
        assert (await probe(url, Transport(insecure=True))).url == url
        assert await page(url, Transport(insecure=True)) is None
        # The certificate holds other names than this one, which leads to the same server.
        via = Transport(ca_file=papers.ca, unix_socket=path)
        assert await outcome("https://localhost", via) == "ok"
        assert await outcome("https://elsewhere.example", via) == "tls"
        assert "elsewhere.example" in await told("https://elsewhere.example", via)
        await told(url.replace("https", "http"), Transport())


async def test_a_unix_socket_with_and_without_tls(tmp_path: Path, papers: Papers) -> None:
    path = str(tmp_path / "s")
    way = Transport(unix_socket=path)
    async with FaultyServer(unix=path) as server:
        assert await outcome("http://localhost", way) == "ok"
        assert (await probe("http://localhost", way)).models == ("mock",)
        assert await page("http://localhost", way) is None
        assert await page("http://other.invalid:9", way) is None  # the name is for the Host field only
        hosts = [fields["host"] for _, _, fields, _ in server.heard]
        assert hosts == ["localhost"] * (len(hosts) - 1) + ["other.invalid:9"]
    assert not await answers("http://localhost", way)
    assert await outcome("http://localhost", way) == "refused"
    gone = Transport(unix_socket=str(tmp_path / "gone"))
    assert await outcome("http://localhost", gone) == "refused"
    assert str(tmp_path / "gone") in await told("http://localhost", gone)
    path = str(tmp_path / "tls")
    async with FaultyServer(unix=path, tls=papers.strict):
        way = Transport({}, "Authorization", papers.ca, papers.cert, papers.key, False, path)
        assert await outcome("https://localhost", way) == "ok"
        assert (await probe("https://localhost", way)).models == ("mock",)
        assert await page("https://localhost", way) is None


async def test_ipv6_for_all_that_asks(papers: Papers) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe_socket:
            probe_socket.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    way = Transport(ca_file=papers.ca)
    async with FaultyServer(host="::1", tls=papers.server) as server:
        url = base(server)
        assert (await probe(f"{url}/v1", way)).url == url
        assert await outcome(url, way) == "ok"
        assert await page(url, way) is None
        assert {fields["host"] for _, _, fields, _ in server.heard} == {url.removeprefix("https://")}


async def test_a_prefix_before_v1_stays(papers: Papers) -> None:
    async with FaultyServer() as server:
        url = server.url("good")  # …/good, as a gateway would have it
        for written in (url, f"{url}/", f"{url}/v1", f"{url}/v1/", f"{url}{PATH}", f"{url}/v1/models"):
            assert (await probe(written)).url == url
        assert await outcome(url, Transport()) == "ok"
        assert await page(url, Transport()) is None
        assert {target for _, target, _, _ in server.heard} == {
            f"/good{path}" for path in ("/v1/models", "/rvtop/topology", PATH, "/metrics")
        }
        for written in (f"{base(server)}/v1", f"{base(server)}{PATH}", f"{base(server)}/metrics"):
            assert (await probe(written)).url == base(server)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://me:hidden@h:8000/v1", "user name or password"),
        ("me:hidden@h:8000", "user name or password"),
        ("ftp://me:hidden@h", "not an http URL"),
        ("http://me:hidden@h:99999", "not a URL"),
        ("http://h:8000/v1?key=1", "query"),
    ],
)
def test_a_url_that_says_too_much_is_refused(url: str, says: str) -> None:
    with pytest.raises(TargetError) as refused:
        base_url(url)
    assert refused.value.exit_code == 2
    assert says in str(refused.value)
    assert "hidden" not in str(refused.value)


async def test_a_server_that_drips_does_not_hold_a_probe_up(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rvtop.target.probe, "_PROBE_TIMEOUT_S", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.02)

    for tls, way in ((None, Transport()), (papers.server, Transport(ca_file=papers.ca))):
        async with await asyncio.start_server(drip, "127.0.0.1", 0, ssl=tls) as server:
            scheme = "http" if tls is None else "https"
            url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            assert "no answer within 0.3 s" in await told(url, way)


async def test_private_headers_follow_no_redirect_to_another_origin() -> None:
    heard: list[str] = []
    pages: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(pages.pop(0) if pages else b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    moved = "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{}/{}\r\ncontent-length: 0\r\n\r\n"
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as one,
        await asyncio.start_server(serve, "127.0.0.1", 0) as two,
    ):
        here, there = (server.sockets[0].getsockname()[1] for server in (one, two))
        pages[:] = [moved.format(port, "m").encode() for port in (here, there)]
        secret = {"Authorization": "Bearer hidden", "X-Team": "hidden"}
        source = PrometheusSource(f"http://127.0.0.1:{here}/metrics", headers=secret)
        assert (await source.poll()).error == "HTTP 404"
        await source.close()
    assert ["hidden" in head for head in heard] == [True, True, False]
    assert heard[0].count("hidden") == heard[1].count("hidden") == 2


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"ca_file": "gone.pem"}, "--ca gone.pem: can't be read: No such file"),
        ({"ca_file": "text.pem"}, "--ca text.pem: holds no PEM certificate"),
        ({"ca_file": "."}, "--ca .: "),
        ({"cert_file": "gone.pem"}, "--cert gone.pem: can't be read: No such file"),
        ({"cert_file": "cert.pem"}, "--cert cert.pem: holds no PEM certificate with its key"),
        ({"cert_file": "cert.pem", "key_file": "other.pem"}, "belong together"),
        ({"cert_file": "cert.pem", "key_file": "gone.pem"}, "--key gone.pem: can't be read: No such file"),
        ({"cert_file": "cert.pem", "key_file": "locked.pem"}, "--key: the key is encrypted"),
    ],
)
def test_a_file_that_will_not_do_is_named(
    files: dict[str, str], says: str, papers: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    monkeypatch.chdir(tmp_path)
    Path("text.pem").write_text("hello\n")
    Path("cert.pem").write_bytes(Path(papers.cert).read_bytes())
    other = trustme.CA().issue_cert("other@example.org").private_key_pem.bytes()
    Path("other.pem").write_bytes(other)
    key = form.load_pem_private_key(Path(papers.key).read_bytes(), None)
    Path("locked.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x"))
    )
    with pytest.raises(TransportError) as refused:
        Transport(**files).ssl_context()  # type: ignore[arg-type]
    assert refused.value.exit_code == 2
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def run_rvtop(folder: Path, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """``rvtop run`` as a process of its own: two seconds of load into ``folder``/run."""
    command = [sys.executable, "-P", "-m", "rvtop.cli", "run", "--rate", "5", "--duration", "2s"]
    command += ["--arrivals", "constant", "--output-tokens", "8", "--out", str(folder / "run"), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "RVTOP_API_KEY": key},
    )


def test_a_whole_run_by_certificate_with_headers_and_fields(papers: Papers, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text(
        "# the gateway's\nX-Gateway-Token: hidden-one\n\nX-Owner: café\n", "utf-8"
    )
    with FaultyServer(tls=papers.strict) as server:
        ended = run_rvtop(
            tmp_path,
            *("--target", f"{base(server)}/v1", "--ca", papers.ca),
            *("--cert", papers.cert, "--key", papers.key),
            *("--header", "X-Team: shown-to-ps", "--header", "Host: models.example"),
            *("--header-file", str(tmp_path / "headers"), "--api-key-header", "api-key"),
            *("--body", "max_tokens=5", "--body", "temperature=0.5", "--body", "user=a b"),
            *("--body", 'logit_bias={"7":1}', "--body", 'stream_options={"continuous_usage_stats":true}'),
            key="hidden-two",
        )
    assert (ended.returncode, unlimited(ended.stderr)) == (0, "")
    posts = [(fields, body) for method, _, fields, body in server.heard if method == "POST"]
    assert len(posts) == 10
    for _, body in posts:
        assert len(body["messages"]) >= 1
        del body["messages"]
        assert body == {
            "model": "mock",
            "stream": True,
            "stream_options": {"continuous_usage_stats": True, "include_usage": True},
            "ignore_eos": True,
            "max_tokens": 5,
            "temperature": 0.5,
            "user": "a b",
            "logit_bias": {"7": 1},
        }
    assert {target for method, target, _, _ in server.heard if method == "GET"} >= {"/v1/models", "/metrics"}
    for _, target, fields, _ in server.heard:
        names = ("x-team", "x-gateway-token", "x-owner", "api-key", "host")
        named = {name: fields.get(name) for name in names}
        assert named == {
            "x-team": "shown-to-ps",
            "x-gateway-token": "hidden-one",
            "x-owner": "café",
            "api-key": "hidden-two",
            "host": "models.example",
        }, target
        assert "authorization" not in fields
    run = tmp_path / "run"
    flags = json.loads((run / "environment.json").read_text())["flags"]
    assert flags["transport"] == {
        "headers": ["Host", "X-Gateway-Token", "X-Owner", "X-Team"],
        "api_key_header": "api-key",
        "ca": papers.ca,
        "cert": papers.cert,
        "key": papers.key,
    }
    assert flags["body"]["max_tokens"] == 5
    for file in run.rglob("*"):
        if file.is_file():
            text = content(file).decode()
            assert "hidden" not in text, file
            assert "shown-to-ps" not in text, file
    assert "hidden" not in ended.stdout
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["requests"]["ok"], summary["tokens"]["output"]) == (10, 50)
    assert summary["server"]["running_max"] == 3


def test_a_whole_run_over_a_unix_socket(tmp_path: Path) -> None:
    with FaultyServer(unix=str(tmp_path / "s")) as server:
        ended = run_rvtop(tmp_path, "--target", "http://localhost", "--unix-socket", str(tmp_path / "s"))
    assert (ended.returncode, unlimited(ended.stderr)) == (0, "")
    assert server.connections > 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["requests"]["ok"] == 10
    assert summary["server"]["running_max"] == 3


def test_without_trust_a_run_ends_before_it_begins(papers: Papers, tmp_path: Path) -> None:
    with FaultyServer(tls=papers.server) as server:
        ended = run_rvtop(tmp_path, "--target", base(server))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "name its authority with --ca FILE" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
