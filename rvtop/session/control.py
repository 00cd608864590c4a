"""``--control SOCKET``: other programs watch and command a running session, one JSON object a line each way.

docs/control.md describes the protocol. Whatever a client sends or leaves unread, the session goes on: lines
have a limit, answers are not waited for, and snapshots that a client is too slow for are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import orjson

import rvtop
from rvtop.contract.command import COMMANDS, CommandError
from rvtop.contract.messages import CODEC, command_of
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.stream import SnapshotWriter
from rvtop.ipc.lines import LineSplitter, LineTooLong
from rvtop.ipc.unix_socket import OwnedSocket
from rvtop.session.commands import Commands
from rvtop.text import printable

PROTOCOL = 1
#: Questions, which change nothing.
QUESTIONS = ("snapshot", "watch", "readonly", "name")

#: Whose commands are those of a connection that does not say its name.
_NAMELESS = "control"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
#: Senders that are no connection.
_OURS = ("keyboard", "signal", "scenario", "autoscale", "session")

_CLIENTS = 32
_LONGEST = 64 << 10  # bytes of a line
_PERIOD_S = 0.1  # between two snapshots for who watches
_PICTURE_NS = 50_000_000
_REST_S = 0.002  # after each line: no client keeps the session's loop for itself
_FAREWELL_S = 1.0  # for clients to read the last picture
_BEHIND = 1 << 20  # unread bytes from which on snapshots are left out …
_LOST = 4 << 20  # … and from which on a client is dropped


class ControlSocket:
    """Serves one session at ``path``. ``snapshot`` returns the picture now, ``news`` comes back once its
    ``seq`` is another than the given one, ``crashed`` notes a fault of ours and returns its line; ``name`` is
    the session's, which began at ``began_ns`` (perf_counter)."""

    def __init__(
        self,
        path: Path,
        name: str,
        commands: Commands,
        snapshot: Callable[[], Snapshot],
        news: Callable[[int], Awaitable[None]],
        crashed: Callable[[Exception], object],
        began_ns: int,
    ) -> None:
        self._path = path
        self._name = name
        self._commands = commands
        self._snapshot = snapshot
        self._news = news
        self._crashed = crashed
        self._began_ns = began_ns
        self._socket: OwnedSocket | None = None
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._watching: dict[asyncio.StreamWriter, SnapshotWriter] = {}
        self._watched = asyncio.Event()  # somebody watches
        self._readonly: set[asyncio.StreamWriter] = set()  # clients that gave up commanding
        self._names: dict[asyncio.StreamWriter, str] = {}  # of clients that said it
        self._telling: asyncio.Task[None] | None = None
        self._line = b""  # the newest snapshot that was asked for …
        self._next_picture_ns = 0  # … which stands for it until then

    async def open(self) -> None:
        """Begins to listen. Raises UserError where that can't be done at its path."""
        self._socket = OwnedSocket(self._path)
        try:
            self._server = await asyncio.start_unix_server(self._accept, sock=self._socket.socket)
        except BaseException:
            self._socket.remove()
            raise
        self._telling = asyncio.create_task(self._tell())

    async def close(self) -> None:
        """Tells who watches the last picture, and removes the socket."""
        if self._server is None or self._socket is None or self._telling is None:
            return
        self._server.close()
        self._socket.remove()
        self._telling.cancel()
        self._tell_once(self._snapshot(), self._watching)
        clients = dict(self._clients)
        for writer in clients.values():
            writer.close()  # what waits for a client is sent before
        if clients:
            _, left = await asyncio.wait(clients, timeout=_FAREWELL_S)
            for client in left:
                clients[client].transport.abort()
        await asyncio.gather(self._telling, *clients, return_exceptions=True)
        self._server = None

    # -- one client --------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        self._clients[client] = writer
        try:
            if len(self._clients) > _CLIENTS:
                self._write(writer, {"error": f"{_CLIENTS} clients are the most; try again later"})
                return
            self._write(writer, self._hello())
            async for line in _lines(reader):
                self._write(writer, await self._answer(line, writer))
                await asyncio.sleep(_REST_S)
        except LineTooLong as error:
            self._write(writer, {"error": str(error)})
        except OSError:
            pass  # it went away
        except Exception as error:  # noqa: BLE001  # a fault of ours: for the log; the session goes on
            self._write(writer, {"error": str(self._crashed(error))})
        finally:
            del self._clients[client]
            self._watching.pop(writer, None)
            self._readonly.discard(writer)
            self._names.pop(writer, None)
            with contextlib.suppress(OSError):
                writer.close()

    def _hello(self) -> dict[str, Any]:
        return {
            "rvtop": rvtop.__version__,
            "protocol": PROTOCOL,
            "session": self._name,
            "commands": [*self._commands.names, *QUESTIONS],
        }

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any] | bytes:
        """What to say to a line."""
        try:
            asked = orjson.loads(line)
        except orjson.JSONDecodeError:
            return {"error": 'not JSON; a command is one line such as {"cmd": "rate", "rps": 20}'}
        if not isinstance(asked, dict) or not isinstance(asked.get("cmd"), str):
            return {"error": 'no command; one is a line such as {"cmd": "rate", "rps": 20}'}
        number = {"id": asked["id"]} if isinstance(asked.get("id"), int | str) else {}
        try:
            found = await self._follow(
                asked.pop("cmd"), {k: v for k, v in asked.items() if k != "id"}, writer
            )
        except CommandError as error:
            return {"error": str(error), **number}
        return found if isinstance(found, bytes) else {**found, **number}

    async def _follow(
        self, name: str, fields: dict[str, Any], writer: asyncio.StreamWriter
    ) -> dict[str, Any] | bytes:
        if name == "snapshot":
            if writer in self._names:
                self._commands.note("snapshot", self._names[writer])
            return self._picture()
        if name == "watch":
            self._watching.setdefault(writer, SnapshotWriter())
            self._watched.set()
            # What stands now, behind this answer: where nothing changes, the next picture is long in coming.
            asyncio.get_running_loop().call_soon(lambda: self._tell_once(self._snapshot(), [writer]))
            return {"ok": "watching"}
        if name == "readonly":
            self._readonly.add(writer)
            return {"ok": "read-only from now on"}
        if name == "name":
            self._names[writer] = said = _name_of(fields)
            return {"ok": f"commands of this connection are noted as by {said}"}
        if name not in COMMANDS:
            known = ", ".join((*self._commands.names, *QUESTIONS))
            raise CommandError(f"unknown command {printable(name, 40)}; known here: {known}")
        if writer in self._readonly:
            raise CommandError(f"{name}: this connection is read-only")
        by = self._names.get(writer, _NAMELESS)
        done = self._commands.follow(command_of(name, fields), by)
        while done.later is not None:
            await asyncio.wait([done.later])
            if done.later.cancelled():
                raise CommandError("the run is ending")
            done = done.later.result()
        at_ns = perf_counter_ns() if done.at_ns is None else done.at_ns
        return {"ok": done.text, "at_s": round((at_ns - self._began_ns) / 1e9, 3)}

    def _picture(self) -> bytes:
        """The newest snapshot; asked for very often, it is not made anew each time."""
        now = perf_counter_ns()
        if now >= self._next_picture_ns:
            self._line = CODEC.encode(self._snapshot())
            self._next_picture_ns = now + _PICTURE_NS
        return self._line

    def _write(self, writer: asyncio.StreamWriter, message: dict[str, Any] | bytes) -> None:
        """Hands a line over without waiting; who does not read is dropped."""
        line = message if isinstance(message, bytes) else orjson.dumps(message) + b"\n"
        if writer.transport.get_write_buffer_size() > _LOST:
            writer.transport.abort()
        elif not writer.is_closing():
            writer.write(line)

    # -- who watches -------------------------------------------------------------------------

    async def _tell(self) -> None:
        seq = -1
        while True:
            await self._watched.wait()
            await self._news(seq)
            if not self._watching:
                self._watched.clear()
                continue
            snapshot = self._snapshot()
            seq = snapshot.seq
            self._tell_once(snapshot, self._watching)
            await asyncio.sleep(_PERIOD_S)

    def _tell_once(self, snapshot: Snapshot, writers: Iterable[asyncio.StreamWriter]) -> None:
        for writer in list(writers):
            messages = self._watching.get(writer)
            if messages is not None and writer.transport.get_write_buffer_size() < _BEHIND:
                self._write(writer, b"".join(map(CODEC.encode, messages.messages(snapshot))))


def _name_of(fields: dict[str, Any]) -> str:
    """Who a client says that it is. Raises CommandError."""
    said = fields.get("by")
    if list(fields) != ["by"] or not isinstance(said, str) or not _NAME.fullmatch(said) or said in _OURS:
        raise CommandError(
            'name: say who sends as {"cmd": "name", "by": "my-script"}: small letters, digits and -, at most '
            f"32, and none of {', '.join(_OURS)}"
        )
    return said


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a client, until it closes its end. Raises LineTooLong."""
    splitter = LineSplitter(_LONGEST)
    while data := await reader.read(1 << 14):
        for line in splitter.feed(data):
            if line.strip():
                yield line
