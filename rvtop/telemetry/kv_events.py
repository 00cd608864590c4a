"""Reads the KV events that vLLM engines publish over ZeroMQ (``--kv-events-config``), in a thread of its own.

A source is the PUB socket of one engine, and its ROUTER socket for batches that were missed, where it has
one. What an engine publishes holds the token ids of prompts; the decoder skips them (``kv_decode``), so that
nothing of them is stored, shown or sent on.

pyzmq and msgspec come with vLLM and Ray, or with ``rvtop[kv]``; they are imported only where a source is
read."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rvtop.errors import UserError
from rvtop.stats.kv_map import EngineMap, KvMap, Locality

if TYPE_CHECKING:
    from rvtop.stats.kv_locality import LocalityCount
    from rvtop.telemetry.kv_stream import KvStream

_POLL_MS = 100
#: Seconds for which batches gather before they are taken: waking for each would cost more than reading it.
_GATHER_S = 0.2
#: Batches taken from one socket before the others have their turn.
_AT_ONCE = 5000
#: Seconds without an answer after which a replay is given up.
_REPLAY_S = 5.0
#: Batches that may wait in our socket, as in vLLM's by default; what is beyond is lost, and told.
_WAITING = 100_000
_LONGEST = 64 << 20
_END = (-1).to_bytes(8, "big", signed=True)
#: What a Unix socket's path may have.
_LONGEST_PATH = 107

_log = logging.getLogger("rvtop.telemetry")


@dataclass(frozen=True)
class KvSource:
    """Where one engine publishes: ``url`` and ``replay`` as ZeroMQ takes them (``tcp://host:5557``,
    ``ipc:///path``). Engines of the same ``model`` are compared with each other."""

    name: str
    url: str
    replay: str | None = None
    model: str = ""


def missing() -> str:
    """Why no KV events can be read here, in one line; empty where they can."""
    absent = [
        name for name, module in (("pyzmq", "zmq"), ("msgspec", "msgspec")) if find_spec(module) is None
    ]
    return f"{' and '.join(absent)} not installed; pip install 'rvtop[kv]'" if absent else ""


def source_of(text: str, number: int) -> KvSource:
    """The source of ``URL`` or ``URL,REPLAY-URL``, the ``number``-th of a command line. Raises UserError."""
    url, comma, again = text.partition(",")
    for part in (url, *([again] if comma else [])):
        if why := wrong_with(part):
            raise UserError(f"--kv-events-url {part}: {why}")
    return KvSource(f"kv{number}", url, again or None)


def wrong_with(url: str) -> str:
    """Why ZeroMQ can't connect to ``url``; empty where it can try."""
    kind, mark, place = url.partition("://")
    if mark and kind == "ipc":
        ok = place.startswith("/") and len(os.fsencode(place)) <= _LONGEST_PATH
        return "" if ok else f"needs an absolute path of at most {_LONGEST_PATH} bytes, as ipc:///run/kv.sock"
    host, colon, port = place.rpartition(":")
    if not (mark and kind == "tcp" and colon and host and port.isdecimal() and 0 < int(port) < 65536):
        return "must look like tcp://host:5557 or ipc:///path, then perhaps a comma and the replay endpoint's"
    return "give the engine's host in place of *" if host == "*" else ""


class KvEvents:
    """Reads ``sources`` from `start` to `stop`. ``picture`` is the newest map, made every ``look_s`` seconds
    in the thread; it may be read from any other. ``clock``: Unix time."""

    def __init__(
        self, sources: Sequence[KvSource], *, look_s: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._look_s = look_s
        self._sources = tuple(sources)
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.picture = KvMap(tuple(EngineMap(source.name, why="connects") for source in sources))
        self.streams: list[KvStream] = []  # of the sources, in their order; of the thread until it is over
        self.cpu_s = 0.0  # of the thread

    def start(self) -> None:
        """Begins to read; where that is impossible the picture says why."""
        if why := missing():
            self.picture = KvMap(note=why)
            return
        self._thread = threading.Thread(target=self._run, name="kv-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Reads no more; returns when the thread is over."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    # -- in the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001  # the session and its load go on without the map
            _log.exception("KV events")
            self.picture = KvMap(note=f"reading KV events failed ({type(error).__name__}); see session.log")

    def _read(self) -> None:
        import zmq

        context = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 4 * len(self._sources) + 16)
        feeds: list[_Feed] = []
        try:
            self.streams, localities = _streams(self._sources)
            poller = zmq.Poller()
            for source, stream in zip(self._sources, self.streams, strict=True):
                feeds.append(_Feed(context, poller, source, stream))
            next_look = time.monotonic()
            while not self._stopping.is_set():
                ready = {socket for socket, _ in poller.poll(_POLL_MS)}
                now = time.monotonic()
                for feed in feeds:
                    feed.turn(ready, now)
                if now >= next_look:
                    next_look = now + self._look_s
                    self._look(feeds, localities, now)
                self.cpu_s = time.thread_time()
                self._stopping.wait(_GATHER_S)
            self._look(feeds, localities, time.monotonic())
        finally:
            context.destroy(linger=0)

    def _look(self, feeds: Sequence[_Feed], localities: Sequence[LocalityCount], now: float) -> None:
        engines = tuple(feed.picture(self._clock(), now) for feed in feeds)
        self.picture = KvMap(engines, _together([one.picture() for one in localities]))


def _streams(sources: Sequence[KvSource]) -> tuple[list[KvStream], list[LocalityCount]]:
    """A stream for each source, and the locality of each model that has several engines."""
    from rvtop.stats.block_map import BlockMap, Key
    from rvtop.stats.kv_locality import LocalityCount
    from rvtop.telemetry.kv_stream import KvStream, OnBegin

    maps = [BlockMap() for _ in sources]
    counts = {
        model: LocalityCount([m for s, m in zip(sources, maps, strict=True) if s.model == model])
        for model in {source.model for source in sources}
        if sum(source.model == model for source in sources) > 1
    }

    def watcher(source: KvSource, blocks: BlockMap) -> OnBegin | None:
        count = counts.get(source.model)
        if count is None:
            return None

        def began(kind: str, first: Key, parent: Key | None) -> None:
            count.see(blocks, kind, first, parent)

        return began

    streams = [
        KvStream(s.name, can_replay=s.replay is not None, on_begin=watcher(s, m), map_=m)
        for s, m in zip(sources, maps, strict=True)
    ]
    return streams, list(counts.values())


def _together(each: Sequence[Locality]) -> Locality | None:
    """Of all models that have several engines; what can't be compared is left out."""
    if not each:
        return None
    known = [one for one in each if one.comparable]
    return Locality(sum(one.offered for one in known), sum(one.taken for one in known), bool(known))


class _Feed:
    """The sockets of one source."""

    def __init__(self, context: Any, poller: Any, source: KvSource, stream: KvStream) -> None:
        import zmq

        self._zmq = zmq
        self._context, self._poller = context, poller
        self._source, self._stream = source, stream
        self._gone_since: float | None = None
        self._replay: Any = None
        self._deadline = 0.0
        self._topic: bytes | None = None  # of the last message that was vLLM's
        self._sub = self._socket(zmq.SUB)
        self._sub.setsockopt(zmq.RCVHWM, _WAITING)
        self._sub.setsockopt(zmq.SUBSCRIBE, b"")
        self._monitor = self._sub.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        for socket in (self._sub, self._monitor):
            poller.register(socket, zmq.POLLIN)
        self._sub.connect(source.url)

    def turn(self, ready: set[Any], now: float) -> None:
        """Takes what came, and asks for what is missing."""
        if self._monitor in ready:
            self._watch(now)
        if self._sub in ready:
            self._take()
        if self._replay in ready:
            self._take_replay(now)
        if self._stream.replaying and self._stream.ask_from is None and now >= self._deadline:
            self._close_replay()
            self._stream.replay_over()
        if self._stream.ask_from is not None:
            self._ask(self._stream.ask_from, now)

    def picture(self, now_s: float, now: float) -> EngineMap:
        """The engine's map; what is wrong with its connection is said first."""
        made = self._stream.picture(now_s)
        if self._gone_since is not None:
            return replace(made, complete=False, why=f"publisher gone for {now - self._gone_since:.0f} s")
        if not self._stream.heard and (why := _unreachable(self._source.url)):
            return replace(made, complete=False, why=why)
        return made

    # -- inside ------------------------------------------------------------------------------

    def _socket(self, kind: int) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(self._zmq.LINGER, 0)
        socket.setsockopt(self._zmq.IPV6, 1)
        socket.setsockopt(self._zmq.MAXMSGSIZE, _LONGEST)
        return socket

    def _watch(self, now: float) -> None:
        from zmq.utils.monitor import recv_monitor_message

        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == self._zmq.EVENT_DISCONNECTED:
                self._gone_since = now
                self._stream.reconnected()
            else:
                self._gone_since = None

    def _take(self) -> None:
        receive, no_wait, live = self._sub.recv, int(self._zmq.NOBLOCK), self._stream.live
        try:
            for _ in range(_AT_ONCE):
                # Topic, number, batch: a third faster than `recv_multipart`, which asks for more after each.
                topic, number, payload = receive(no_wait), receive(no_wait), receive(no_wait)
                if (topic == self._topic and len(number) == 8) or self._is_whole(topic, number):
                    live(int.from_bytes(number, "big"), payload)
        except self._zmq.Again:
            return

    def _is_whole(self, topic: bytes, number: bytes) -> bool:
        """Whether three parts are all of a message; reads on to where the next one begins. To ask this of
        each message takes longer than to receive it; where a part is taken for that of another message, its
        topic is not the one of before."""
        more = False
        while self._sub.getsockopt(self._zmq.RCVMORE):  # not vLLM's
            self._sub.recv(self._zmq.NOBLOCK)
            more = True
        if more or len(number) != 8:
            return False
        self._topic = topic
        return True

    def _ask(self, first: int, now: float) -> None:
        if self._replay is None:
            self._replay = self._socket(self._zmq.DEALER)
            self._replay.setsockopt(self._zmq.RCVHWM, 0)
            self._poller.register(self._replay, self._zmq.POLLIN)
            self._replay.connect(self._source.replay)
        self._replay.send_multipart([b"", first.to_bytes(8, "big")])
        self._stream.asked()
        self._deadline = now + _REPLAY_S

    def _take_replay(self, now: float) -> None:
        self._deadline = now + _REPLAY_S
        for _ in range(_AT_ONCE):
            try:
                frames = self._replay.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return
            if (
                len(frames) < 3 or len(frames[-2]) != 8
            ):  # an empty one, in newer releases the topic, and those two
                continue
            if frames[-2] == _END:
                self._close_replay()  # so that no late answer is taken for one of the next replay
                self._stream.replay_over()
                return
            self._stream.again(int.from_bytes(frames[-2], "big"), frames[-1])

    def _close_replay(self) -> None:
        if self._replay is not None:
            with contextlib.suppress(KeyError):
                self._poller.unregister(self._replay)
            self._replay.close()
            self._replay = None


def _unreachable(url: str) -> str:
    """Why a Unix socket can't be there for us; empty for other addresses."""
    kind, _, path = url.partition("://")
    if kind != "ipc":
        return ""
    if not os.path.exists(path):
        return "its socket is not here: on another machine, or of another user"
    return "" if os.access(path, os.W_OK) else "its socket is another user's"
