"""A gRPC target as a session learns of it, without gRPC's library: what a process of its own is told by it
(``rvtop/load/rpc/ask.py``), and whether anything speaks HTTP/2 there still."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from rvtop.errors import UserError
from rvtop.ipc import child
from rvtop.net.place import GRPC
from rvtop.net.transport import Transport
from rvtop.text import printable

#: Our own service (proto/rvtop_v1.proto): what a URL means that names none.
OURS = "rvtop.v1.Generation"
_START_S = 60.0  # of the process that asks, beside what it waits for
#: What every HTTP/2 client begins with, and an empty SETTINGS (RFC 9113, 3.4). A server says its own at once.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def grpc_url(url: str) -> str:
    """``url`` as the load engine takes it: grpc://host:port, and the service behind it if it names one.
    Raises UserError (exit code 2)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(f"{url}: not a URL ({error}); it should look like grpc://host:50051") from error
    if "@" in parts.netloc:
        raise UserError(
            "grpc://…: a user name or password in a URL shows in process lists; give an Authorization line "
            "in a file with --header-file"
        )
    if not parts.hostname or port is None or parts.query or parts.fragment:
        raise UserError(f"{url}: should look like grpc://host:50051")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    service = parts.path.strip("/")
    return f"{GRPC}{host}:{port}" + (f"/{service}" if service else "")


async def ask_grpc(
    url: str,
    headers: dict[str, str],
    transport: Transport,
    limit_s: float,
    bodies: Sequence[bytes] = (),
) -> dict[str, Any]:
    """What the target says (see ``rvtop/load/rpc/ask.py``), each of ``bodies`` sent to it."""
    given = {
        "url": url,
        "headers": headers,
        "unix_socket": transport.unix_socket,
        "limit_s": limit_s,
        "bodies": [body.decode() for body in bodies],
    }
    process = await child.start(*child.module_command("rvtop.load.rpc.ask"), stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(limit_s * (1 + len(bodies)) + _START_S):
            text, _ = await process.communicate(json.dumps(given).encode())
        return dict(json.loads(text))
    except (TimeoutError, ValueError):
        return {"error": ["timeout_connect", "the process that asks it gave no answer"]}
    finally:
        if process.returncode is None:
            child.kill_group(process)
            await process.wait()


async def speaks_http2(url: str, transport: Transport, limit_s: float) -> bool:
    """Whether anything says its settings there within ``limit_s`` seconds."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(limit_s):
            if transport.unix_socket is not None:
                reader, writer = await asyncio.open_unix_connection(transport.unix_socket)
            else:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(_PREFACE)
                return bool(await reader.read(1))
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False


def trouble(url: str, error: Sequence[str]) -> tuple[str, int]:
    """One line on why a target can't be used, and the exit code."""
    kind, text = error[0], printable(" ".join(error[1].split()), 300)
    if kind in ("missing", "usage"):
        return f"{url}: {text}", 2
    if kind in ("http_401", "http_403"):
        return f"{url}: needs an API key ({text}); set RVTOP_API_KEY", 3
    if kind == "refused":
        return f"{url}: nothing answers there ({text}); is the server up?", 3
    return f"{url}: can't be used as a gRPC target ({text})", 3
