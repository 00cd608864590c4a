"""Reads the messages of one call into a Record. Pure: facts and a time in, facts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from rvtop.load.wire import timings
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.record import TEXT_LIMIT, Record
from rvtop.text import printable

#: Between what is said of a request beside its message (lines, as HTTP has them) and the message.
BREAK = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Ending:
    """What a call's last message says; None: it does not say."""

    finish: str = ""
    output_tokens: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    server: Mapping[str, Any] | None = None


class CallReader:
    """The reading of one call. ``now_ns`` is when a message was received (perf_counter)."""

    __slots__ = ("_finish_ns", "fresh", "read_ns", "record")

    def __init__(self, record: Record, fresh: Fresh) -> None:
        self.record = record
        self.fresh = fresh
        self.read_ns = 0  # the last message
        self._finish_ns = 0

    def read(self, token: bool, text: str, now_ns: int) -> None:
        """A message; ``token``: it brings at least one, whose text may be empty."""
        record = self.record
        if not self.read_ns:
            record.headers_ns = now_ns
        self.read_ns = now_ns
        if token:
            if record.first_ns:
                gap = now_ns - record.last_ns
                record.gaps.append(gap)
                self.fresh.gaps_ns.append(gap)
            else:
                record.first_ns = now_ns
                self.fresh.ttft_ns.append(now_ns - record.intended_ns)
            record.last_ns = now_ns
            record.chunks += 1
        if record.body is not None and text:  # for a conversation's next turn, which reads events
            record.body.append(b"data: " + orjson.dumps({"choices": [{"text": text}]}) + b"\n\n")

    def read_end(self, ending: Ending, now_ns: int) -> None:
        """What the last message says besides."""
        record = self.record
        if ending.finish:
            record.finish = printable(ending.finish, TEXT_LIMIT)
            self._finish_ns = now_ns
        for name in ("output_tokens", "prompt_tokens", "cached_tokens"):
            value = getattr(ending, name)
            if value is not None:
                setattr(record, name, value)
        record.server = timings.of_rvtop(ending.server) or record.server
        engine = (record.server or {}).get("engine")
        record.engine = engine if isinstance(engine, str) else record.engine

    def end(self) -> None:
        """Settles the record of a call that ended with OK."""
        record = self.record
        if record.error is not None:
            return
        if not self.read_ns:
            record.fail("empty", "the call ended well without a message")
        elif record.finish is None:
            record.fail("truncated", "the call ended before a finish reason")
        elif not record.first_ns:
            record.fail("empty", "the call ended well but brought no token")
