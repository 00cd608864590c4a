"""Reads an answer that comes in one piece of JSON: embeddings, rerank, and generation without a stream.

There is no first token: the time of the answer is that of its last bytes, and goes to ``record.last_ns``.
"""

from __future__ import annotations

from typing import Any

import orjson

from rvtop.load.wire.event_streams import note_message_usage, note_response
from rvtop.load.wire.facts import count, failure_of, note_usage, parsed
from rvtop.load.wire.record import TEXT_LIMIT, Record
from rvtop.text import printable

#: No answer comes near this: 2048 vectors of 4096 numbers in text are about 160 MiB.
MAX_BYTES = 256 << 20
_SHOWN = 80


class WholeAnswer:
    """The reading of one body of an endpoint (a name of ``load.plan.api``) into a Record."""

    __slots__ = ("_endpoint", "_pieces", "_record", "_size", "whole")

    def __init__(self, record: Record, endpoint: str) -> None:
        self._record = record
        self._endpoint = endpoint
        self._pieces: list[bytes] = []
        self._size = 0
        self.whole = False

    def feed(self, data: bytes, now_ns: int) -> None:
        """Takes the next bytes of the body. Never raises; faults go to ``record.error``."""
        self._size += len(data)
        if self._size > MAX_BYTES:
            self._pieces.clear()
            self._record.fail("bad_stream", f"an answer longer than {MAX_BYTES} bytes")
        else:
            self._pieces.append(data)

    def end(self, now_ns: int, lost: str = "", *, reset: bool = False) -> None:
        """Settles the record: the body is over, or the connection was ``lost`` (why, in short)."""
        record = self._record
        if record.error is not None:
            return
        if lost:
            record.fail("reset" if reset else "truncated", lost)
            return
        body = b"".join(self._pieces)
        self._pieces.clear()
        if not body.strip():
            record.fail("empty", "the body is empty")
            return
        try:
            answer = parsed(body)
        except ValueError:
            if _is_begun(body):
                record.fail("truncated", "the body ended in the middle of its JSON")
            else:
                record.fail("bad_stream", f"the body is not JSON: {body[:_SHOWN]!r}")
            return
        if not isinstance(answer, dict):
            record.fail("bad_stream", f"the body is not a JSON object: {body[:_SHOWN]!r}")
            return
        self._take(answer)
        if record.error is None:
            self.whole = True
            record.last_ns = now_ns
            if record.body is not None:
                record.body.append(body)

    def join(self, first_ns: int) -> None:
        """Nothing of these is read elsewhere."""

    @property
    def pattern(self) -> None:
        """None: there are no events."""
        return None

    @property
    def beginning(self) -> None:
        """None: there are no events."""
        return None

    def _take(self, answer: dict[str, Any]) -> None:
        record, endpoint = self._record, self._endpoint
        if endpoint == "responses":
            if answer.get("object") == "error" or "output" not in answer:
                self._refuse(answer, "output")
            else:
                note_response(record, answer)
            return
        failure = failure_of(answer)
        if failure is not None:
            record.fail("stream_error", failure)
            return
        usage = answer.get("usage")
        if endpoint == "messages":
            note_message_usage(record, usage)
            self._listed(answer, "content")
            self._finish(answer.get("stop_reason"))
            return
        if isinstance(usage, dict):
            note_usage(record, usage)
            if endpoint == "rerank":
                record.prompt_tokens = count(usage.get("total_tokens"), record.prompt_tokens)
        if endpoint in ("embeddings", "rerank"):
            record.output_tokens = None  # vLLM counts 0 of them: there are none
            self._listed(answer, "data" if endpoint == "embeddings" else "results")
            return
        choices = self._listed(answer, "choices")
        if choices and isinstance(choices[0], dict):
            self._finish(choices[0].get("finish_reason"))

    def _finish(self, why: Any) -> None:
        if isinstance(why, str) and why:
            self._record.finish = printable(why, TEXT_LIMIT)

    def _listed(self, answer: dict[str, Any], key: str) -> list[Any]:
        """What the answer is there for; without it, it is none."""
        found = answer.get(key)
        if isinstance(found, list) and found:
            return found
        if isinstance(found, list):
            self._record.fail("empty", f"the answer's {key!r} is empty")
        else:
            self._refuse(answer, key)
        return []

    def _refuse(self, answer: dict[str, Any], key: str) -> None:
        failure = failure_of(answer)
        if failure is not None:
            self._record.fail("stream_error", failure)
        else:
            self._record.fail("bad_stream", f"the answer has no list {key!r}")


def _is_begun(body: bytes) -> bool:
    """Whether a body that is no JSON is the beginning of an object, cut perhaps within a character."""
    text = body.decode("utf-8", "ignore").lstrip()
    if not text.startswith("{"):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return error.msg.startswith("unexpected end of data")
    return False
