"""The read path in C (``_reads.c``); absent where it could not be built."""

from collections.abc import Callable
from typing import final

#: Digest of the ``_reads.c`` that this was built from, as ``reads.digest`` has it.
SOURCE: str

@final
class Stream:
    """The reading side of one socket, which ``on_read`` and ``on_lost`` of its connection hear of."""

    @property
    def read_ns(self) -> int:
        """When the last bytes of the response came (perf_counter); 0: none yet."""

    @property
    def last_ns(self) -> int:
        """When the last token came, of those that were counted here or told by :meth:`arm`."""

    def send(self, data: bytes, sent_ns: int, /) -> int:
        """Begins a request. How many bytes the socket took at once; it never raises and never waits."""

    def arm(self, before: bytes, after: bytes, last_ns: int, /) -> None:
        """From here to the next call of ``on_read``, HTTP chunks that are ``before + text + after`` are
        counted as tokens; the token before them came at ``last_ns``. The last byte that ``on_read`` got must
        be the last of a chunk."""

    def take_gaps(self) -> bytes:
        """The gaps of the tokens that were counted since the last call, int64 nanoseconds."""

    def release(self) -> None:
        """Reads no more. To be called while the socket is open."""

@final
class Hub:
    """Reads of many sockets, in turns: :meth:`poll` whenever :meth:`fileno` is readable.

    ``on_due`` is called in the middle of a turn once the time of :meth:`due` has come.
    """

    on_due: Callable[[], None]

    def add(self, fd: int, on_read: Callable[[bytes], None], on_lost: Callable[[int], None], /) -> Stream:
        """Takes over the reading of a connected socket that does not block. ``on_read`` gets the bytes that
        were not counted; ``on_lost`` gets an errno, or 0 at the end of the stream. Raises OSError."""

    def due(self, at_ns: int, /) -> None:
        """Sets the time (perf_counter) for ``on_due``, once; it replaces the one before."""

    def poll(self) -> None:
        """Reads what has come. Raises what a callback raises; the next call reads on."""

    def fileno(self) -> int:
        """Readable while a socket is, and when ``on_due`` is due."""

    def close(self) -> None:
        """Calls ``on_due`` no more; to be called once no socket is read any more."""

    def take_gaps(self) -> bytes:
        """The gaps of all tokens that were counted since the last call, int64 nanoseconds."""
