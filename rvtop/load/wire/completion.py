"""Reads one streamed completion from the bytes of its body. Pure: bytes and a time in, facts out.

Three ways lead to the same facts. The careful one parses the events and their JSON. The quick one
knows that nearly every piece of a body is one event that differs from the one before it in its text
alone: two comparisons of its ends show it, when no quote stands between them. Where a read brought several
events, needles are counted: when all of them carry text, no finish reason and nothing else of note,
their number is all there is to know. The first event with text always goes the careful way and settles
how this stream spells its events. A quote or a line end inside a JSON string is escaped, so text can't
forge either.
"""

from __future__ import annotations

from array import array
from typing import Any, ClassVar, NamedTuple

from rvtop.load.wire import timings
from rvtop.load.wire.facts import failure_of, note_usage, parsed
from rvtop.load.wire.record import TEXT_LIMIT, Record
from rvtop.load.wire.sse import SseError, SseParser
from rvtop.text import printable


class _Needles(NamedTuple):
    """How a server writes a chunk that carries text and nothing else."""

    key: str  # of the text, in the choice or its delta
    text: bytes  # stands once in each event with text
    empty: bytes  # … unless the text is empty
    going_on: bytes  # no finish reason yet
    usage: bytes  # a chunk with figures of its own


#: This much of a body that holds no event goes into the error.
_SHOWN = 160

_SPELLINGS = tuple(
    _Needles(
        key,
        f'"{key}":{gap}"'.encode(),
        f'"{key}":{gap}""'.encode(),
        f'"finish_reason":{gap}null'.encode(),
        usage,
    )
    for key in ("content", "text", "reasoning_content", "reasoning")
    for gap, usage in (("", b'"usage":{'), (" ", b'"usage": {'))
)


class Fresh:
    """What all streams of a worker brought since it was last looked at, for the live view."""

    __slots__ = ("gaps_ns", "ttft_ns")

    def __init__(self) -> None:
        self.ttft_ns = array("q")  # from the intended time
        self.gaps_ns = array("q")


class Completion:
    """The reading of one response body into a Record. ``now_ns`` is the time of the read (perf_counter)."""

    #: What ends a whole answer, in words.
    CLOSING: ClassVar[str] = "[DONE] and before a finish reason"

    __slots__ = (
        "_after",
        "_before",
        "_finish_ns",
        "_least",
        "_needles",
        "_opening",
        "_skip",
        "_sse",
        "_start",
        "_tail",
        "done",
        "events",
        "fresh",
        "record",
        "size",
    )

    def __init__(self, record: Record, fresh: Fresh) -> None:
        self.record = record
        self.fresh = fresh
        self.done = False  # [DONE] was seen
        self.events = 0  # events that went the careful way
        self.size = 0  # body bytes that went the careful way
        self._finish_ns = 0
        self._opening = b""  # the first event, if it brought no token
        self._start = b""  # how the body begins, until it holds an event
        self._sse = SseParser()
        self._needles: _Needles | None = None
        self._before = b""  # a chunk's bytes before its text …
        self._after = b""  # … and after it
        self._skip = 0  # length of the one; 0: not known yet
        self._tail = 0  # minus the length of the other
        self._least = 0  # length of both

    def feed(self, data: bytes, now_ns: int) -> None:
        """Takes the next bytes of the body, split anywhere. Never raises; faults go to ``record.error``."""
        skip = self._skip
        if (
            skip
            and data.startswith(self._before)
            and data.endswith(self._after)
            and len(data) > self._least  # an empty text is no token
            and data.find(b'"', skip, self._tail)
            < 0  # the text and nothing else: no other key, no other event
            and self._sse.idle
        ):
            record = self.record
            gap = now_ns - record.last_ns
            record.gaps.append(gap)
            self.fresh.gaps_ns.append(gap)
            record.chunks += 1
            record.last_ns = now_ns
            return
        n = self._all_tokens(data)
        if n and self._sse.idle:
            if n == 1:  # some servers put the time into each chunk: the pattern follows it
                self._shape(data)
            self._tokens(n, now_ns)
            return
        self._feed_careful(data, now_ns)

    @property
    def pattern(self) -> tuple[bytes, bytes] | None:
        """What stands before and after the text in an event that brings text and nothing else, once it is
        known and no event is half read. Such events may be counted instead of fed."""
        ready = self._skip and not self.record.error and self._sse.idle
        return (self._before, self._after) if ready else None

    @property
    def beginning(self) -> tuple[bytes, bytes, bytes] | None:
        """How the answer began, right after its first token and if that is plain: the event before it, which
        had no token (empty: there was none), and the pattern of the token's event."""
        record, pattern = self.record, self.pattern
        facts = (
            record.finish,
            record.server,
            record.output_tokens,
            record.prompt_tokens,
            record.cached_tokens,
        )
        if pattern is None or record.chunks != 1 or facts != (None,) * 5:
            return None
        if self.events == 2 and self._opening:
            return (b"data: %b\n\n" % self._opening, *pattern)
        return (b"", *pattern) if self.events == 1 else None

    def join(self, first_ns: int) -> None:
        """The events up to here were read elsewhere; that of the first token, too, at ``first_ns``, unless it
        is 0. May be called again."""
        self.events = self.events or 1
        self._sse.begun()
        record = self.record
        if first_ns and not record.first_ns:
            record.first_ns = record.last_ns = first_ns
            record.chunks += 1

    def _all_tokens(self, data: bytes) -> int:
        """How many events ``data`` is made of, if each is whole and carries text and nothing else; else 0."""
        needles = self._needles
        if needles is None or not data.startswith(b"data: {") or not data.endswith(b"}\n\n"):
            return 0
        n = data.count(b"data: {")
        plain = (
            n == data.count(b"}\n\n")
            and n == data.count(needles.text)
            and n == data.count(needles.going_on)
            and needles.empty not in data
            and needles.usage not in data
        )
        return n if plain else 0

    def _tokens(self, n: int, now_ns: int) -> None:
        """``n`` chunks with text in one read: between them no time passed that we could see."""
        record = self.record
        gaps = [now_ns - record.last_ns, *([0] * (n - 1))]
        record.gaps.extend(gaps)
        self.fresh.gaps_ns.extend(gaps)
        record.chunks += n
        record.last_ns = now_ns

    @property
    def whole(self) -> bool:
        """Whether the answer is at its end, so that nothing that follows can spoil it."""
        return self.done or self.record.finish is not None

    def end(self, now_ns: int, lost: str = "", *, reset: bool = False) -> None:
        """Settles the record: the body is over, or the connection was ``lost`` (why, in short)
        by being closed or by a ``reset``."""
        record = self.record
        if not lost:
            self._events(self._sse.end(), now_ns, last=True)
        if record.error:
            return
        if not self.whole:
            if lost:
                record.fail("reset" if reset else "truncated", lost)
            elif self.events:
                record.fail("truncated", f"the body ended before {self.CLOSING}")
            elif self.size:
                record.fail("bad_stream", f"the body holds no server-sent event: {self._start!r}")
            else:
                record.fail("empty", "the body is empty")
            return
        # A token without text of its own (half a character, cut by max_tokens) still was one.
        if not record.first_ns and record.output_tokens and self._finish_ns:
            self._first(self._finish_ns)
            record.last_ns = self._finish_ns
        if not record.first_ns:
            record.fail("empty", "the stream ended well but brought no token")

    def _feed_careful(self, data: bytes, now_ns: int) -> None:
        if self.record.error:
            return
        self.size += len(data)
        if not self.events and len(self._start) < _SHOWN:
            self._start += data[: _SHOWN - len(self._start)]
        try:
            events = self._sse.feed(data)
        except SseError as error:
            self.record.fail("bad_stream", str(error))
            return
        self._events(events, now_ns)

    def _events(self, events: list[bytes], now_ns: int, *, last: bool = False) -> None:
        """``last``: the body ended behind these, perhaps in the middle of one."""
        for data in events:
            if self.done or self.record.error:
                return
            if not data.strip():
                continue  # a sign of life
            self.events += 1
            if data.strip() == b"[DONE]":
                self.done = True
                self._skip = 0  # what follows counts no more
                self._needles = None
                return
            try:
                chunk = parsed(data)
            except ValueError as error:
                if not last:
                    self.record.fail("bad_stream", f"an event is not JSON ({error}): {data[:80]!r}")
                return
            if not isinstance(chunk, dict):
                self.record.fail("bad_stream", f"an event is not a JSON object: {data[:80]!r}")
                return
            self._chunk(chunk, data, now_ns)
            if self.events == 1 and not self.record.chunks:
                self._opening = data

    def _chunk(self, chunk: dict[str, Any], raw: bytes, now_ns: int) -> None:
        record = self.record
        failure = failure_of(chunk)
        if failure is not None:
            record.fail("stream_error", failure)
            return
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage(usage)
        if record.server is None and "metrics" in chunk:
            record.server = timings.of_vllm(chunk["metrics"])
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        choice = choices[0]
        finish = choice.get("finish_reason") or None  # some servers write "" while they go on
        if carries_token(choice):
            self._token(now_ns)
            if finish is None:  # else no other like it comes
                self._note_spelling(choice, raw)
        if isinstance(finish, str):
            record.finish = printable(finish, TEXT_LIMIT)
            self._finish_ns = now_ns

    def _token(self, now_ns: int) -> None:
        """A chunk with text, read by itself."""
        record = self.record
        if record.first_ns:
            record.gaps.append(now_ns - record.last_ns)
            self.fresh.gaps_ns.append(now_ns - record.last_ns)
        else:
            self._first(now_ns)
        record.last_ns = now_ns
        record.chunks += 1

    def _note_spelling(self, choice: dict[str, Any], raw: bytes) -> None:
        """Notes how this stream spells a chunk that carries text and nothing else, from one of them."""
        needles = _spelling(choice, raw)
        if needles is None:
            return
        self._needles = needles
        self._shape(b"data: " + raw + b"\n\n")

    def _shape(self, event: bytes) -> None:
        """What stands around the text in this event, which brings text and nothing else."""
        assert self._needles is not None
        begin = event.index(self._needles.text) + len(self._needles.text)
        self._expect(event, begin)

    def _expect(self, event: bytes, begin: int) -> None:
        """Events like this one, whose text begins at ``begin``, bring text and nothing else."""
        end = _string_end(event, begin)
        self._before = event[:begin]
        self._after = event[end:]
        self._skip = len(self._before)
        self._tail = -len(self._after)
        self._least = self._skip - self._tail

    def _first(self, now_ns: int) -> None:
        self.record.first_ns = now_ns
        self.fresh.ttft_ns.append(now_ns - self.record.intended_ns)

    def _usage(self, usage: dict[str, Any]) -> None:
        note_usage(self.record, usage)


def carries_token(choice: dict[str, Any]) -> bool:
    """Whether a choice brings text or a token on any channel."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        if delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"):
            return True
        if delta.get("tool_calls") or delta.get("function_call") or delta.get("refusal"):
            return True
    return bool(choice.get("text") or choice.get("token_ids"))


def _string_end(raw: bytes, begin: int) -> int:
    """Where the JSON string that begins at ``begin`` (behind its quote) has its closing quote."""
    at = raw.index(b'"', begin)
    while _escaped(raw, begin, at):
        at = raw.index(b'"', at + 1)
    return at


def _escaped(raw: bytes, begin: int, at: int) -> bool:
    slashes = at - begin - len(raw[begin:at].rstrip(b"\\"))
    return slashes % 2 == 1


def _spelling(choice: dict[str, Any], raw: bytes) -> _Needles | None:
    """The needles that this chunk with text shows, if it is of the plain kind."""
    if b"\n" in raw:
        return None
    delta = choice.get("delta")
    for needles in _SPELLINGS:
        home = choice if needles.key == "text" else delta
        if (
            isinstance(home, dict)
            and isinstance(home.get(needles.key), str)
            and raw.count(needles.text) == 1
            and needles.empty not in raw
            and raw.count(needles.going_on) == 1
        ):
            return needles
    return None
