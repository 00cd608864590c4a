"""Whether a process of Ray's answers: asked by the preface of HTTP/2, to which every gRPC server says its
settings at once, without a token. (RFC 9113, 3.4.) A process that is stopped accepts a connection, by its
kernel, and says nothing."""

from __future__ import annotations

import asyncio
import contextlib

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def answers(host: str, port: int, limit_s: float) -> bool | None:
    """Whether something there says anything within ``limit_s`` seconds; to hang up counts (a server that
    wants TLS does). None where nobody listens: the process is gone, and not only late."""
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_PREFACE)
                await reader.read(1)
                return True
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    writer.transport.abort()
    except ConnectionRefusedError:
        return None
    except (OSError, TimeoutError):
        return False
