"""A streamed answer's text for the next turn of a conversation: read once, when the stream has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from rvtop.load.wire.completion import Completion
from rvtop.load.wire.sse import SseError, SseParser

_AT_ONCE = 1 << 16


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
    """The text of an answer, streamed or in one piece, without reasoning: of the first choice, of the blocks
    of a message, of a response; what can't be read is left out."""
    whole = b"".join(body)
    if whole.lstrip().startswith(b"{"):
        return "".join(_said_whole(whole))
    parser = SseParser()
    text: list[str] = []
    events: list[bytes] = []
    try:
        for begin in range(0, len(whole), _AT_ONCE):
            events += parser.feed(whole[begin : begin + _AT_ONCE])
        events += parser.end()
    except SseError:
        pass  # the record says so already; what came before is the answer
    for data in events:
        try:
            delta = _delta(orjson.loads(data))
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            continue
        if isinstance(delta, str):
            text.append(delta)
    return "".join(text)


def _delta(event: Any) -> Any:
    """What an event of a stream says."""
    if event.get("type") == "response.output_text.delta":
        return event["delta"]
    if "type" in event:
        return event["delta"]["text"]
    choice = event["choices"][0]
    return choice["delta"]["content"] if "delta" in choice else choice["text"]


def _said_whole(body: bytes) -> Iterator[str]:
    """The texts of an answer in one piece."""
    try:
        answer = orjson.loads(body)
        if "choices" in answer:
            choice = answer["choices"][0]
            found = [choice["message"]["content"] if "message" in choice else choice["text"]]
        elif "output" in answer:
            messages = [one for one in answer["output"] if one.get("type") == "message"]
            found = [part.get("text") for one in messages for part in one["content"]]
        else:
            found = [block.get("text") for block in answer["content"]]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        return
    yield from (text for text in found if isinstance(text, str))
