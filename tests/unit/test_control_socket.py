"""The control socket against clients of all kinds: what they send or leave unread never hurts the session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pytest

from rvtop.contract.command import Command, CommandError, Mark, SetRate, Stop
from rvtop.contract.messages import CODEC
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.stream import SnapshotReader
from rvtop.errors import UserError
from rvtop.session import control
from rvtop.session.control import ControlSocket
from rvtop.session.control_client import ControlClient, WatchedSession
from rvtop.session.rate_control import Done
from tests.ui import made

LIMIT_S = 240.0
PICTURE = made.live()


class FakeCommands:
    """Keeps what it is told to follow."""

    names = ("rate", "mark", "stop")

    def __init__(self) -> None:
        self.followed: list[tuple[Command, str]] = []

    def follow(self, command: Command, by: str) -> Done:
        if isinstance(command, Mark):
            raise CommandError("not available in this session: mark\x1b[2J")
        if isinstance(command, Stop):
            raise RuntimeError("a fault of ours")
        self.followed.append((command, by))
        return Done("rate 0 → 20 rps", perf_counter_ns())


class Served:
    """A control socket on a made-up session, whose picture changes with each look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands = FakeCommands()
        self.faults: list[Exception] = []
        self.looks = 0
        self.control = ControlSocket(
            path,
            "demo",
            self.commands,
            self.snapshot,
            self.news,
            self.fault,
            perf_counter_ns(),  # type: ignore[arg-type]
        )

    def snapshot(self) -> Snapshot:
        self.looks += 1
        return replace(PICTURE, seq=self.looks)

    async def news(self, seen: int) -> None:
        """Each look is another picture."""

    def fault(self, error: Exception) -> UserError:
        self.faults.append(error)
        return UserError("the session crashed: see session.log")

    async def client(self) -> Client:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=1 << 24)
        return Client(reader, writer, json.loads(await reader.readline()))

    async def works(self) -> None:
        """The session still follows a command of somebody else."""
        count = len(self.commands.followed)
        other = await self.client()
        assert await other.ask(b'{"cmd":"rate","rps":20}') == {
            "ok": "rate 0 → 20 rps",
            "at_s": pytest.approx(0, abs=LIMIT_S),
        }
        assert self.commands.followed[count:] == [(SetRate(20.0), "control")]
        await other.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Any) -> None:
        self.reader = reader
        self.writer = writer
        self.hello = hello

    async def ask(self, line: bytes) -> Any:
        self.writer.write(line + b"\n")
        return await self.line()

    async def line(self) -> Any:
        return json.loads(await asyncio.wait_for(self.reader.readline(), LIMIT_S))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@pytest.fixture
def path() -> Iterator[Path]:
    """Pytest's own folders are too deep for a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "s"


@pytest.fixture
async def served(path: Path) -> AsyncIterator[Served]:
    made_up = Served(path)
    await made_up.control.open()
    yield made_up
    await made_up.control.close()
    assert not path.exists()


async def test_a_client_is_greeted_and_its_commands_are_answered_in_order(served: Served) -> None:
    client = await served.client()
    assert client.hello["protocol"] == 1
    assert client.hello["session"] == "demo"
    assert client.hello["commands"] == ["rate", "mark", "stop", "snapshot", "watch", "readonly", "name"]
    client.writer.write(b'{"cmd":"rate","rps":1,"id":7}\n{"cmd":"rate","rps":2,"id":"b"}\n\n')
    answers = [await client.line(), await client.line()]
    assert [answer["id"] for answer in answers] == [7, "b"]
    assert served.commands.followed == [(SetRate(1.0), "control"), (SetRate(2.0), "control")]
    assert (await client.ask(b'{"cmd":"snapshot"}'))["type"] == "snapshot"
    await client.close()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"rate 20", "not JSON"),
        (b"\x00\xff\x1b[2J", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'{"cmd":"rate","rps":NaN}', "not JSON"),
        (b"[1]", "no command"),
        (b'{"cmd":5}', "no command"),
        (
            b'{"cmd":"fly\\u001b"}',
            "unknown command fly\\x1b; known here: rate, mark, stop, snapshot, watch, readonly",
        ),
        (b'{"cmd":"rate"}', "rate: no rps"),
        (b'{"cmd":"rate","rps":"20"}', "rate.rps: must be a number, not a text"),
        (b'{"cmd":"rate","rps":20,"rsp":1}', "rate: unknown rsp; it takes rps"),
        (b'{"cmd":"phase","to":"back"}', "phase.to: must be one of next, again"),
        (b'{"cmd":"mark","note":"x"}', "not available in this session: mark\\x1b[2J"),
    ],
)
async def test_what_is_no_command_is_one_line_to_who_sent_it(served: Served, line: bytes, what: str) -> None:
    client = await served.client()
    answer = await client.ask(line)
    assert answer["error"].startswith(what)
    assert served.commands.followed == []
    assert (await client.ask(b'{"cmd":"rate","rps":3}'))["ok"]
    await client.close()


async def test_a_line_without_an_end_is_cut_off_long_before_it_fills_the_memory(served: Served) -> None:
    client = await served.client()
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 1 << 30 and not client.writer.transport.is_closing():
            client.writer.write(b"x" * (1 << 16))
            sent += 1 << 16
            await asyncio.wait_for(client.writer.drain(), LIMIT_S)
    assert sent < 64 << 20
    await client.close()
    await served.works()


async def test_half_a_line_is_no_command(served: Served) -> None:
    client = await served.client()
    client.writer.write(b'{"cmd":"rate","rps":99}')
    await client.writer.drain()
    await client.close()
    await served.works()
    assert (SetRate(99.0), "control") not in served.commands.followed


async def test_a_hundred_clients_at_once_are_served_or_refused_and_make_room_again(served: Served) -> None:
    clients = [await served.client() for _ in range(100)]
    refused = [client for client in clients if "error" in client.hello]
    assert len(refused) == 100 - control._CLIENTS
    assert refused[0].hello == {"error": "32 clients are the most; try again later"}
    assert await refused[0].reader.read() == b""
    for client in clients:
        await client.close()
    async with asyncio.timeout(LIMIT_S):
        while served.control._clients:
            await asyncio.sleep(0.01)
    await served.works()


async def test_who_watches_and_does_not_read_costs_the_others_nothing(served: Served) -> None:
    slow, brisk = await served.client(), await served.client()
    for client in (slow, brisk):
        assert await client.ask(b'{"cmd":"watch"}') == {"ok": "watching"}
    reader, seen = SnapshotReader(), 0
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(600):
        served.control._tell_once(served.snapshot(), served.control._watching)
        while True:  # the brisk one takes in each picture as it comes
            snapshot = reader.take(CODEC.decode(await asyncio.wait_for(brisk.reader.readline(), LIMIT_S)))
            if snapshot is not None:
                break
        seen = snapshot.seq
    assert seen >= 600
    buffered = [writer.transport.get_write_buffer_size() for writer in served.control._watching]
    assert max(buffered) >= control._BEHIND  # somebody does not read …
    assert max(buffered) < control._LOST  # … and what waits for it does not grow
    await slow.close()
    await brisk.close()
    await served.works()


async def test_who_asks_and_does_not_read_is_dropped(served: Served) -> None:
    client = await served.client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        async with asyncio.timeout(LIMIT_S):
            while served.control._clients:
                client.writer.write(b'{"cmd":"snapshot"}\n' * 20)
                await client.writer.drain()
                await asyncio.sleep(0.01)
    async with asyncio.timeout(LIMIT_S):
        while served.control._clients:
            await asyncio.sleep(0.01)
    await client.close()
    await served.works()


async def test_a_fault_of_ours_is_answered_and_noted_and_the_session_goes_on(served: Served) -> None:
    client = await served.client()
    assert await client.ask(b'{"cmd":"stop"}') == {"error": "the session crashed: see session.log"}
    assert [str(error) for error in served.faults] == ["a fault of ours"]
    await client.close()
    await served.works()


async def test_who_watches_sees_history_once_and_the_last_picture(served: Served) -> None:
    client, reader = await served.client(), SnapshotReader()
    await client.ask(b'{"cmd":"watch"}')
    kinds, snapshot = [], None
    while len(kinds) < 20 or snapshot is None:
        line = await asyncio.wait_for(client.reader.readline(), LIMIT_S)
        kinds.append(json.loads(line)["type"])
        snapshot = reader.take(CODEC.decode(line)) or snapshot
    assert snapshot == replace(PICTURE, seq=snapshot.seq)
    assert kinds.count("series") == 1
    await served.control.close()
    rest = (await asyncio.wait_for(client.reader.read(), LIMIT_S)).splitlines()
    assert CODEC.decode(rest[-1]).seq == served.looks
    await client.close()


async def test_a_screen_that_joins_commands_and_tells_what_is_refused_and_the_end(served: Served) -> None:
    handle = await WatchedSession(served.path).start()
    async with asyncio.timeout(LIMIT_S):
        while (first := handle.snapshot()) is None:
            await asyncio.sleep(0.01)
        assert first.series == PICTURE.series
        handle.send(SetRate(20.0))
        handle.send(Mark("x"))
        while not (notes := notes_of(handle)):
            await asyncio.sleep(0.01)
        assert notes == [r"not available in this session: mark\x1b[2J"]
        assert served.commands.followed == [(SetRate(20.0), "control")]
        await served.control.close()
        while (now := handle.snapshot()) is None or now.state != "lost":
            await asyncio.sleep(0.01)
    assert now.message == "the session has gone"
    await handle.close()


def notes_of(handle: WatchedSession) -> list[str]:
    now = handle.snapshot()
    return [] if now is None else [event.text for event in now.events if event.kind == "command"]


async def test_a_connection_that_said_it_is_read_only_is_refused_each_command(served: Served) -> None:
    handle = await WatchedSession(served.path, readonly=True).start()
    async with asyncio.timeout(LIMIT_S):
        while handle.snapshot() is None:
            await asyncio.sleep(0.01)
        handle.send(SetRate(20.0))
        while not (notes := notes_of(handle)):
            await asyncio.sleep(0.01)
    assert notes == ["rate: this connection is read-only"]
    assert served.commands.followed == []
    await served.works()  # another connection commands as ever
    await handle.close()


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"", "the session does not answer: it has ended"),
        (b"SSH-2.0\r\n", "no session of rvtop listens there"),
        (b'{"rvtop":"9"}\n{"type":"snapshot"}\n', "no session of rvtop: snapshot: no seq"),
    ],
)
async def test_what_is_no_session_is_told_with_exit_code_3(path: Path, said: bytes, what: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        if b"snapshot" in said:
            await reader.readline()
        writer.close()

    def ask() -> None:
        with ControlClient(path) as client:
            client.send("snapshot", {})
            client.snapshot()

    server = await asyncio.start_unix_server(answer, str(path))
    with pytest.raises(UserError) as caught:
        await asyncio.to_thread(ask)
    server.close()
    assert str(caught.value) == f"{path}: {what}"
    assert caught.value.exit_code == 3


async def test_two_cannot_listen_at_one_place_and_the_second_leaves_the_first_alone(served: Served) -> None:
    second = Served(served.path)
    with pytest.raises(UserError, match="a session listens there already; give another path"):
        await second.control.open()
    await second.control.close()
    await served.works()
