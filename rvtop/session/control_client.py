"""The other end of ``--control``: for one command (``rvtop ctl``), and for a screen that watches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from rvtop.contract.codec import CodecError, UnknownType
from rvtop.contract.command import NAMES, Command
from rvtop.contract.messages import CODEC
from rvtop.contract.snapshot import OVER, Event, Snapshot
from rvtop.contract.stream import EVENTS, SnapshotReader
from rvtop.errors import UserError
from rvtop.ipc.lines import LineSplitter, LineTooLong
from rvtop.text import printable, told

_LONGEST = 64 << 20
_PATIENCE_S = 10.0
#: These ask a server or make prompts first.
_SLOW = ("retarget", "workload", "undo")
_SLOW_S = 180.0


class ControlClient:
    """A connection to the session at ``path``. All that waits raises UserError: exit code 3 where no session
    listens or answers, 2 where it refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._patience_s = _PATIENCE_S
        self._splitter = LineSplitter(_LONGEST)
        self._lines: list[bytes] = []
        self._socket = connect(path)
        try:
            self.hello = self._object(self._answer_line())
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, command: str, fields: Mapping[str, Any]) -> None:
        """Sends one command or question."""
        try:
            self._socket.sendall(orjson.dumps({"cmd": command, **fields}) + b"\n")
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from None
        except orjson.JSONEncodeError:
            raise UserError(f"ctl {command}: is not UTF-8") from None

    def answer(self, command: str = "") -> tuple[str, dict[str, Any]]:
        """The answer to ``command``, as its line and what it says; ``ok`` is safe to print."""
        self._patience_s = _SLOW_S if command in _SLOW else _PATIENCE_S
        self._socket.settimeout(self._patience_s)
        line = self._answer_line()
        answer = self._object(line)
        return printable(line.decode("utf-8", "replace")), {**answer, "ok": told(answer.get("ok"))}

    def snapshot(self) -> tuple[str, Snapshot]:
        """The answer to the question for a snapshot."""
        for line, message in self.messages():
            if isinstance(message, Snapshot):
                return line, message
        raise self._gone("it ended")

    def watch(self) -> Iterator[tuple[str, Any]]:
        """What a session that is watched tells, however long it has nothing to tell."""
        self.send("watch", {})
        self.answer()
        self._socket.settimeout(None)
        return self.messages()

    def messages(self) -> Iterator[tuple[str, Any]]:
        """What comes, until the session ends. A newer session's messages that are unknown here are left
        out."""
        while True:
            try:
                line = self._line()
            except EOFError:
                return
            if line.startswith(b'{"error"'):
                self._object(line)
            try:
                yield printable(line.decode("utf-8", "replace")), CODEC.decode(line)
            except UnknownType:
                continue
            except CodecError as error:
                raise UserError(f"{self._path}: no session of rvtop: {error}", 3) from None

    def _answer_line(self) -> bytes:
        try:
            return self._line()
        except EOFError:
            raise self._gone("it has ended") from None

    def _line(self) -> bytes:
        """The next line. Raises EOFError at the end, UserError."""
        while not self._lines:
            try:
                data = self._socket.recv(1 << 16)
                self._lines = self._splitter.feed(data)
            except TimeoutError:
                raise self._gone(f"no answer within {self._patience_s:g} s") from None
            except (OSError, LineTooLong) as error:
                raise self._gone(str(error)) from None
            if not data:
                raise EOFError
        return self._lines.pop(0)

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self._path}: no session of rvtop listens there", 3)
        if "error" in found:
            raise UserError(told(found["error"]))
        return found

    def _gone(self, why: str) -> UserError:
        return UserError(f"{self._path}: the session does not answer: {why}", 3)


def connect(path: Path) -> socket.socket:
    """A connection to the socket at ``path``. Raises UserError (exit code 3)."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(_PATIENCE_S)
    try:
        made.connect(os.fspath(path))
    except (FileNotFoundError, ConnectionRefusedError):
        made.close()
        raise UserError(
            f"{path}: no session listens there; start one with rvtop run … --control {path}", 3
        ) from None
    except OSError as error:
        made.close()
        raise UserError(f"{path}: can't be reached: {error.strerror or error}", 3) from None
    return made


class WatchedSession:
    """A session of another terminal, for the screen: a ``rvtop.contract.handle.SessionHandle``. With
    ``readonly`` the session itself refuses whatever this connection would command."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        self._readonly = readonly
        self._writer: asyncio.StreamWriter | None = None
        self._stream = SnapshotReader()
        self._snapshot: Snapshot | None = None
        self._notes: tuple[Event, ...] = ()  # our own, for this screen
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> WatchedSession:
        """Connects. Raises UserError."""
        reader, writer = await asyncio.open_unix_connection(sock=connect(self._path))
        if self._readonly:
            writer.write(b'{"cmd":"readonly"}\n')
        writer.write(b'{"cmd":"watch"}\n')
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader, writer))
        return self

    def snapshot(self) -> Snapshot | None:
        """The newest picture."""
        return self._snapshot

    def send(self, command: Command) -> None:
        """Hands a command over; what the session refuses is an event on this screen."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(orjson.dumps({"cmd": NAMES[type(command)], **asdict(command)}) + b"\n")

    async def close(self) -> None:
        """Watches no more; the session goes on."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _note(self, text: str) -> None:
        self._notes = (*self._notes, Event(time.time(), printable(text), "warn", "command"))
        if self._snapshot is not None:
            self._show(self._snapshot)

    def _show(self, snapshot: Snapshot) -> None:
        mine = [note for note in self._notes if note not in snapshot.events]
        events = sorted((*snapshot.events, *mine), key=lambda event: event.unix_s)[-EVENTS:]
        seq = snapshot.seq if self._snapshot is None else max(snapshot.seq, self._snapshot.seq + 1)
        self._snapshot = replace(snapshot, seq=seq, events=tuple(events))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines, problem = LineSplitter(_LONGEST), "the session has gone"
        try:
            while data := await reader.read(1 << 18):
                for line in lines.feed(data):
                    with contextlib.suppress(UnknownType):
                        self._take(line)
        except (CodecError, LineTooLong, OSError, orjson.JSONDecodeError) as error:
            problem = f"what comes from {self._path} can't be read: {printable(str(error))}"
        finally:
            writer.close()
        last = self._snapshot
        if last is not None and last.state not in OVER:
            self._show(replace(last, state="lost", message=problem))

    def _take(self, line: bytes) -> None:
        if line.startswith(b'{"error"'):
            self._note(told(orjson.loads(line).get("error")))
        elif line.startswith(b'{"type"'):  # else an answer
            snapshot = self._stream.take(CODEC.decode(line))
            if snapshot is not None:
                self._show(snapshot)
