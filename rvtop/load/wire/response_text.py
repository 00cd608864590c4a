"""A streamed answer's text for the next turn of a conversation: read once, when the stream has ended."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from rvtop.load.wire.completion import Completion
from rvtop.load.wire.sse import SseError, SseParser


class KeptCompletion(Completion):
    """A Completion that keeps what it read."""

    __slots__ = ()

    def feed(self, data: bytes, now_ns: int) -> None:
        """As Completion's, and the bytes go to ``record.body``."""
        if self.record.body is not None:
            self.record.body.append(data)
        super().feed(data, now_ns)

    @property
    def pattern(self) -> None:
        """None: every event has to be fed."""
        return None


def answer_text(body: Iterable[bytes]) -> str:
    """The content of the first choice, without reasoning; what can't be read is left out."""
    parser = SseParser()
    text: list[str] = []
    events: list[bytes] = []
    try:
        for piece in body:
            events += parser.feed(piece)
        events += parser.end()
    except SseError:
        pass  # the record says so already; what came before is the answer
    for data in events:
        try:
            choice = orjson.loads(data)["choices"][0]
            delta = choice["delta"]["content"] if "delta" in choice else choice["text"]
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            continue
        if isinstance(delta, str):
            text.append(delta)
    return "".join(text)
