"""The send and read path in C (``module.c`` lists its parts); absent where it could not be built."""

from array import array
from collections.abc import Callable
from typing import Any, final

#: Digest of the C sources that this was built from, as ``loader.digest`` computes it.
SOURCE: str

def count_buckets(values: array[int] | bytes, edges: bytes, /) -> bytes:
    """How many of ``values`` lie in each bucket, as JSON: ``[[bucket, count], …]`` of those that hold some.
    Both are int64; ``edges`` holds the upper edge of each bucket, ascending; what is above the last one
    belongs to the last bucket."""

@final
class Conn:
    """One socket with what reads it (see :meth:`Poller.add`); the figures are those of the last request."""

    @property
    def record(self) -> Any:
        """That of the request in flight; None: none is."""

    @property
    def sent_ns(self) -> int:
        """When the request was sent (perf_counter)."""

    @property
    def head_ns(self) -> int:
        """When the response's head came, if the poller knew it (status 200, chunked, plain) and kept it from
        ``on_read``; else 0."""

    @property
    def opened(self) -> int:
        """Whether any event behind that head was read here."""

    @property
    def first_ns(self) -> int:
        """When the first token came, if it was seen here; else 0."""

    @property
    def read_ns(self) -> int:
        """When the last bytes of the response came (perf_counter); 0: none yet."""

    @property
    def last_ns(self) -> int:
        """When the last token came, of those that were counted here or given to :meth:`expect_tokens`."""

    def send(self, record: object, request: bytes, intended_ns: int, sent_ns: int, known: bool, /) -> None:
        """Begins a request. What the socket does not take at once, be it for an error, ``on_rest`` gets.
        ``known``: the poller's template may be used, and the whole response be read for
        :meth:`Poller.take_completed`. Raises ValueError when the stream is released or busy."""

    def arm(self) -> bytes:
        """What stood in the head, if the poller knew it, for the arm that answers; cut to 64 bytes."""

    def finish(self) -> None:
        """The request is in flight no more."""

    def rest(self) -> None:
        """The connection may be used for the next request."""

    def retire(self) -> None:
        """No further request is sent on the connection; idle, now or later, :meth:`Poller.stale` gives it."""

    def expect_tokens(self, before: bytes, after: bytes, last_ns: int, /) -> None:
        """From here to the next call of ``on_read``, or the answer's end, HTTP chunks that are ``before +
        text + after`` are counted as tokens; the token before them came at ``last_ns``. The last byte that
        ``on_read`` got must be the last of a chunk."""

    def take_gaps(self) -> bytes:
        """The gaps of the tokens that were counted since the last call, int64 nanoseconds."""

    def release(self) -> None:
        """Reads no more. To be called while the socket is open."""

@final
class Poller:
    """Reads of many sockets, in turns: :meth:`poll` whenever :meth:`fileno` is readable.

    ``on_due`` is called in the middle of a turn once the time of :meth:`due` has come, ``on_tick`` at the end
    of a turn once that of :meth:`tick` has. ``on_no_connection`` gets (record, request) of what was scheduled
    and finds no connection idle when its time has come. ``on_completed`` is called at the end of a turn when
    more answers have ended than ``most_waiting``, or no other is read here. ``idle_limit_ns``: connections
    that are idle for longer are not used again.
    """

    on_due: Callable[[], None]
    on_tick: Callable[[], None]
    on_no_connection: Callable[[tuple[Any, bytes]], None]
    on_completed: Callable[[], None]
    most_waiting: int
    idle_limit_ns: int

    @property
    def idle(self) -> int:
        """How many connections are idle."""

    @property
    def scheduled(self) -> int:
        """How many requests wait for their time."""

    def add(
        self,
        fd: int,
        owner: object,
        on_read: Callable[[bytes], None],
        on_lost: Callable[[Any], None],
        on_rest: Callable[[bytes], None],
        tls: Any = None,
        /,
    ) -> Conn:
        """Takes over the reading of a connected socket that does not block; ``owner`` stands for it.
        ``on_read`` gets the bytes that were not counted. ``on_lost`` gets an errno, or 0 at the end of the
        stream. ``on_rest``: see :meth:`Conn.send`. What is sent and read goes through ``tls``, a ``Tls``, if
        there is one; ``on_lost`` gets its errors too. Raises OSError."""

    def set_template(self, head: bytes, preamble: bytes, first: bytes, /) -> None:
        """How responses begin (see ``templates.py``): the HTTP head, the body of a chunk of no account
        (empty: there is none) and the body of the chunk with the first token."""

    def due(self, at_ns: int, /) -> None:
        """Sets the time (perf_counter) for ``on_due``, once; it replaces the one before."""

    def tick(self, at_ns: int, /) -> None:
        """Sets the time (perf_counter) for ``on_tick``, once; it replaces the one before."""

    def watch(self, fd: int, on_command: Callable[[], None], /) -> None:
        """Has ``on_command`` called while ``fd`` is readable: at the beginning of a turn, and before a
        request is sent if that is long ago. Below 0: no more. Raises OSError."""

    def poll(self, linger_ns: int, /) -> None:
        """Reads what has come, and what else comes within the time, until anything was called. Raises what
        that raises; the next call reads on. No callback may call it (RuntimeError), and while it waits, which
        is without the interpreter's lock, no other thread may use the poller."""

    def fileno(self) -> int:
        """Readable while a socket is, and when something is due."""

    def schedule(self, record: object, request: bytes, intended_ns: int, /) -> None:
        """Begins a request at ``intended_ns`` on the connection that was idle last, in the middle of a turn
        if need be, as by :meth:`Conn.send` with ``known``."""

    def unschedule(self, from_ns: int, /) -> int | None:
        """Drops what was scheduled for ``from_ns`` or later; the time of the first, None if there is none."""

    def send_due(self) -> None:
        """Sends the scheduled requests whose time has come."""

    def send(
        self, record: object, request: bytes, intended_ns: int, sent_ns: int, known: bool, /
    ) -> Any | None:
        """Begins a request on the connection that was idle last, as by :meth:`Conn.send`. Its owner; None
        if no connection is idle."""

    def stale(self, now_ns: int, /) -> list[Any]:
        """The owners of connections that are idle and retired, or idle for too long."""

    def close(self) -> None:
        """Makes no call any more, and drops what waits; to be called once no socket is read. What would make
        a call then raises RuntimeError."""

    def take_sent(self) -> list[tuple[Any, Any, int]]:
        """Of the scheduled requests that were sent since the last call, the record, the connection's owner
        and the time."""

    def take_completed(self) -> list[tuple[Any, int, int, int, int, bytes, bytes, bytes]]:
        """Of the answers that were read here to their end since the last call: the record; when the head, the
        first token, the last byte and the last token came; what :meth:`Conn.take_gaps` would give; the bytes
        of the body behind the last token; and what :meth:`Conn.arm` would give."""

    def take_ttfts(self) -> bytes:
        """Of the first tokens that were seen here since the last call, the time from the intended one, int64
        nanoseconds."""

    def take_gaps(self) -> bytes:
        """The gaps of all tokens that were counted since the last call, int64 nanoseconds."""
