"""Reads the streams of typed events: Anthropic's ``/v1/messages`` and OpenAI's ``/v1/responses``.

Both name each event twice, on its ``event:`` line and as ``type`` of its JSON; the JSON counts. Sources:
https://docs.anthropic.com/en/docs/build-with-claude/streaming and
https://platform.openai.com/docs/api-reference/responses-streaming, and what vLLM 0.29 sends
(``vllm/entrypoints/anthropic/serving.py``, ``vllm/entrypoints/openai/responses``).
"""

from __future__ import annotations

from typing import Any, ClassVar

from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.facts import count, failure_of
from rvtop.load.wire.record import TEXT_LIMIT, Record
from rvtop.text import printable, told

#: Where the text of an event that brings nothing else is.
_TEXT = (b'"text":"', b'"text": "', b'"thinking":"', b'"thinking": "')


class EventStream(Completion):
    """What both have in common: one event closes the answer, and a stream without it was cut."""

    __slots__ = ("_closed", "_keeps")

    def __init__(self, record: Record, fresh: Fresh) -> None:
        super().__init__(record, fresh)
        self._closed = False
        self._keeps = record.body is not None  # the text is needed: every event has to be fed

    def feed(self, data: bytes, now_ns: int) -> None:
        """As Completion's; the bytes go to ``record.body`` where a next turn needs them."""
        if self.record.body is not None:
            self.record.body.append(data)
        super().feed(data, now_ns)

    @property
    def whole(self) -> bool:
        """Whether the closing event came."""
        return self._closed

    @property
    def pattern(self) -> tuple[bytes, bytes] | None:
        """As Completion's; None where every event has to be fed."""
        return None if self._keeps else super().pattern

    @property
    def beginning(self) -> None:
        """None: no template is made of these."""
        return None

    def _close(self, finish: Any, now_ns: int) -> None:
        """The closing event: nothing that follows counts."""
        self._closed = self.done = True
        self._skip = 0
        self._finish_ns = now_ns
        if isinstance(finish, str) and finish:
            self.record.finish = printable(finish, TEXT_LIMIT)


class MessageStream(EventStream):
    """``/v1/messages``: message_start, blocks of content_block_delta, message_delta, message_stop."""

    CLOSING: ClassVar[str] = "message_stop"

    __slots__ = ()

    def _chunk(self, chunk: dict[str, Any], raw: bytes, now_ns: int) -> None:
        kind, record = chunk.get("type"), self.record
        failure = failure_of(chunk)
        if failure is not None:
            record.fail("stream_error", failure)
        elif kind == "message_start":
            message = chunk.get("message")
            note_message_usage(record, message.get("usage") if isinstance(message, dict) else None)
        elif kind == "content_block_delta":
            delta = chunk.get("delta")
            if isinstance(delta, dict) and any(
                delta.get(key) for key in ("text", "thinking", "partial_json")
            ):
                self._token(now_ns)
                self._note_shape(raw)
        elif kind == "message_delta":
            delta = chunk.get("delta")
            finish = delta.get("stop_reason") if isinstance(delta, dict) else None
            if isinstance(finish, str) and finish:
                record.finish = printable(finish, TEXT_LIMIT)
            note_message_usage(record, chunk.get("usage"))
        elif kind == "message_stop":
            self._close(record.finish, now_ns)
        # ping, content_block_start, content_block_stop and what is new carry no token.

    def _note_shape(self, raw: bytes) -> None:
        """Events that differ from this one in their text alone need no parsing."""
        event = b"event: content_block_delta\ndata: " + raw + b"\n\n"
        found = [key for key in _TEXT if raw.count(key) == 1]
        if len(found) == 1 and b"\n" not in raw:
            self._expect(event, event.index(found[0]) + len(found[0]))


class ResponseStream(EventStream):
    """``/v1/responses``: events of a response, each with a number of its own, and one that closes it."""

    CLOSING: ClassVar[str] = "response.completed"

    __slots__ = ()

    def _chunk(self, chunk: dict[str, Any], raw: bytes, now_ns: int) -> None:
        kind, record = chunk.get("type"), self.record
        failure = failure_of(chunk)
        if kind == "error" and failure is None:
            failure = told(chunk.get("message") or chunk)
        if failure is not None:
            record.fail("stream_error", failure)
        elif not isinstance(kind, str):
            return
        elif kind.endswith(".delta") and chunk.get("delta"):
            self._token(now_ns)  # text, reasoning, a refusal, arguments of a function
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            response = chunk.get("response")
            if isinstance(response, dict) and note_response(record, response):
                self._close(record.finish, now_ns)
            elif record.error is None:
                record.fail("bad_stream", f"{kind} holds no response")


def note_message_usage(record: Record, usage: Any) -> None:
    """Takes Anthropic's counts. Its ``input_tokens`` are those that no cache had: the prompt is all three."""
    if not isinstance(usage, dict):
        return
    record.output_tokens = count(usage.get("output_tokens"), record.output_tokens)
    own = count(usage.get("input_tokens"), None)
    cached = count(usage.get("cache_read_input_tokens"), None)
    written = count(usage.get("cache_creation_input_tokens"), None)
    if own is not None and own + (cached or 0) + (written or 0) > 0:  # vLLM's first event says 0 at times
        record.prompt_tokens = own + (cached or 0) + (written or 0)
        record.cached_tokens = cached if cached is not None else record.cached_tokens


def note_response(record: Record, response: dict[str, Any]) -> bool:
    """Takes what a response that has ended says of itself; False: it is an error, which is noted."""
    usage = response.get("usage")
    if isinstance(usage, dict):
        record.output_tokens = count(usage.get("output_tokens"), record.output_tokens)
        record.prompt_tokens = count(usage.get("input_tokens"), record.prompt_tokens)
        details = usage.get("input_tokens_details")
        if isinstance(details, dict):
            record.cached_tokens = count(details.get("cached_tokens"), record.cached_tokens)
    status, failure = response.get("status"), failure_of(response)
    if failure is not None or status in ("failed", "cancelled"):
        record.fail("stream_error", failure or f"the response is {status}")
        return False
    details = response.get("incomplete_details")
    why = details.get("reason") if isinstance(details, dict) else None
    for finish in (why, status):
        if isinstance(finish, str) and finish and record.finish is None:
            record.finish = printable(finish, TEXT_LIMIT)
    return True
