"""A backend that lost what it runs in (a Ray cluster whose head is gone with its state) starts anew in its
own place: the same process id, lease, events and port, so that whoever started it and whoever loads it see a
backend that was away for a while. Nothing of Ray's can be used twice in a process, so it is a new program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from backends.errors import ApiError, unavailable
from backends.process.running import Running, StartAgain

log = logging.getLogger("backends.process.again")

#: How long a head that was lost is waited for: its node may have to start first.
HEAD_LIMIT_S = 300.0
#: Whoever reads the notices each second has read why.
_SAID_S = 1.5
#: Closing talks to what is gone, and may hang.
_CLOSE_LIMIT_S = 5.0
#: What is handed over: the listening socket, the reason, how many nodes the cluster had; the port of
#: gRPC, and what was changed while the backend served.
_LISTENER_ENV, _REASON_ENV, _NODES_ENV = "RVTOP_LISTENER_FD", "RVTOP_STARTED_AGAIN", "RVTOP_NODES_BEFORE"
_GRPC_ENV, _CHANGED_ENV = "RVTOP_GRPC_PORT", "RVTOP_CHANGED"

_LOOK_S, _REQUEST_S = 0.2, 0.5

_first: dict[str, str] = {}  # the environment that this program was started with
_handed: list[int] = []
_again: list[str] = []
_nodes: list[int] = []
_grpc: list[int] = []
_before: dict[str, dict[str, Any]] = {}
_changed: dict[str, dict[str, Any]] = {}  # those and what was changed since


def _refusal(error: ApiError) -> bytes:
    body = json.dumps(error.body()).encode()
    headers = {**error.headers(), "Content-Type": "application/json", "Content-Length": len(body)}
    lines = [f"HTTP/1.1 {error.status} Service Unavailable", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


_REFUSAL = _refusal(unavailable("The server is starting again."))


def remember() -> str:
    """Called first of all. Returns why this is not the first start; "" for the first one."""
    _handed[:] = [int(fd) for fd in [os.environ.pop(_LISTENER_ENV, "")] if fd.isdigit()]
    _again[:] = [reason for reason in [os.environ.pop(_REASON_ENV, "")] if reason]
    _nodes[:] = [int(count) for count in [os.environ.pop(_NODES_ENV, "")] if count.isdigit()]
    _grpc[:] = [int(port) for port in [os.environ.pop(_GRPC_ENV, "")] if port.isdigit()]
    changed = os.environ.pop(_CHANGED_ENV, "") or "{}"
    for held in (_before, _changed):
        held.clear()
        held.update(json.loads(changed))
    _first.clear()
    _first.update(os.environ)
    return _again[0] if _again else ""


def is_again() -> bool:
    """Whether this is not the first start."""
    return bool(_again)


def nodes_before() -> int:
    """How many nodes the cluster had that was lost; 0 for the first start."""
    return sum(_nodes)


def keep(what: str, values: Mapping[str, Any]) -> None:
    """Has a further start know what was changed: of ``what``, these values, beside those of before."""
    _changed.setdefault(what, {}).update(values)


def changed_before(what: str) -> dict[str, Any]:
    """What the starts before this one kept."""
    return dict(_before.get(what, {}))


def grpc_port() -> int | None:
    """The port on which the start before answered gRPC; None without one."""
    return _grpc[0] if _grpc else None


def listener() -> socket.socket | None:
    """The listening socket of the start before; None for the first one."""
    if not _handed:
        return None
    handed = socket.socket(fileno=_handed.pop())
    os.set_inheritable(handed.fileno(), False)
    handed.setblocking(False)
    return handed


class Absence:
    """Answers 503 on the listening socket while a backend starts again, so that clients need not wait for as
    long as that takes. In a thread: imports hold up an event loop."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening.dup()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, name="absence", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """It is over: others answer."""
        self._over.set()
        self._thread.join(_LOOK_S + _REQUEST_S)
        self._listening.close()

    def _answer(self) -> None:
        while not self._over.is_set():
            if not select.select([self._listening], [], [], _LOOK_S)[0]:
                continue
            with contextlib.suppress(OSError):  # another one took it, or it went away
                client, _ = self._listening.accept()
                with client:
                    client.settimeout(_REQUEST_S)
                    client.recv(1 << 16)
                    client.sendall(_REFUSAL)


async def start_again(
    reason: StartAgain,
    running: Running,
    listening: socket.socket,
    events_fd: int,
    grpc: int | None = None,
) -> None:
    """Ends what still runs, and starts this program anew with the same arguments. ``events_fd`` is where its
    events go, ``grpc`` the port of gRPC. Returns only where that can't be done."""
    log.error("%s", reason)
    await asyncio.sleep(_SAID_S)
    kept = os.dup(listening.fileno())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_LIMIT_S):
            await asyncio.gather(running.close(0.0), return_exceptions=True)
    os.set_inheritable(kept, True)
    with contextlib.suppress(OSError):  # a gone terminal
        sys.stderr.flush()
    handed = {_LISTENER_ENV: str(kept), _REASON_ENV: str(reason), _NODES_ENV: str(reason.nodes)}
    if grpc is not None:
        handed[_GRPC_ENV] = str(grpc)
    if _changed:
        handed[_CHANGED_ENV] = json.dumps(_changed)
    try:
        os.dup2(events_fd, 1)  # which goes to stderr while a backend runs
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**_first, **handed})
    except OSError as error:
        log.error("the backend could not start itself again: %s", error)
        os.close(kept)
