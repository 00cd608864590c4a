"""The read path in C (``_reads.c``); absent where it could not be built."""

from collections.abc import Callable
from typing import final

#: Digest of the ``_reads.c`` that this was built from, as ``reads.digest`` has it.
SOURCE: str

@final
class Stream:
    """The reading side of one socket, for the four callbacks of its connection (see :meth:`Hub.add`)."""

    @property
    def sent_ns(self) -> int:
        """When the request was sent (perf_counter); 0: it was launched, and its time has not come."""

    @property
    def head_ns(self) -> int:
        """When the response's head came, if the hub knew it (status 200, chunked, plain) and kept it from
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
        """When the last token came, of those that were counted here or told by :meth:`arm`."""

    def send(self, data: bytes, intended_ns: int, sent_ns: int, known: bool, /) -> int:
        """Begins a request. How many bytes the socket took at once; it never raises and never waits.
        ``known``: what the hub has learned may be taken here, and ``on_end`` be called for ``on_read``."""

    def launch(self, request: bytes, intended_ns: int, /) -> None:
        """Begins a request at ``intended_ns``, in the middle of a turn if need be, as by :meth:`send` with
        ``known``; ``on_rest`` gets what the socket does not take. The answer before must have ended. Raises
        ValueError when the stream is released, launched or waits for ``on_end``, or the time is before that
        of the hub's last launch."""

    def arm(self, before: bytes, after: bytes, last_ns: int, /) -> None:
        """From here to the next call of ``on_read`` or ``on_end``, HTTP chunks that are ``before + text +
        after`` are counted as tokens; the token before them came at ``last_ns``. The last byte that
        ``on_read`` got must be the last of a chunk."""

    def take_gaps(self) -> bytes:
        """The gaps of the tokens that were counted since the last call, int64 nanoseconds."""

    def release(self) -> None:
        """Reads no more. To be called while the socket is open."""

@final
class Hub:
    """Reads of many sockets, in turns: :meth:`poll` whenever :meth:`fileno` is readable.

    ``on_due`` is called in the middle of a turn once the time of :meth:`due` has come. ``most_waiting``: so
    many calls of ``on_end`` may wait at the end of a turn, while more answers are read here.
    """

    on_due: Callable[[], None]
    most_waiting: int

    def add(
        self,
        fd: int,
        on_read: Callable[[bytes], None],
        on_end: Callable[[bytes], None],
        on_lost: Callable[[int], None],
        on_rest: Callable[[bytes], None],
        /,
    ) -> Stream:
        """Takes over the reading of a connected socket that does not block. ``on_read`` gets the bytes that
        were not counted. ``on_end`` gets those of the body behind the last token that was counted, when the
        head was known and the whole response has come. ``on_lost`` gets an errno, or 0 at the end of the
        stream. ``on_rest``: see :meth:`Stream.launch`. Raises OSError."""

    def learn(self, head: bytes, opening: bytes, first: bytes, /) -> None:
        """How responses begin (templates of ``known.py``): the HTTP head, the body of a chunk of no account
        (empty: there is none) and the body of the chunk with the first token."""

    def due(self, at_ns: int, /) -> None:
        """Sets the time (perf_counter) for ``on_due``, once; it replaces the one before."""

    def poll(self) -> None:
        """Reads what has come. Raises what a callback raises; the next call reads on. No callback may call it
        (RuntimeError)."""

    def fileno(self) -> int:
        """Readable while a socket is, and when ``on_due`` is due."""

    def fire(self) -> None:
        """Sends the launched requests whose time has come."""

    def land(self) -> None:
        """Calls ``on_end`` for the responses that have come to their end."""

    def close(self) -> None:
        """Calls ``on_due`` no more; to be called once no socket is read any more."""

    def take_ttfts(self) -> bytes:
        """Of the first tokens that were seen here since the last call, the time from the intended one, int64
        nanoseconds."""

    def take_gaps(self) -> bytes:
        """The gaps of all tokens that were counted since the last call, int64 nanoseconds."""
