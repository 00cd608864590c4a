"""The OpenAI-compatible surface, answer side: token deltas -> SSE bytes, or one JSON body.

Chunks have vLLM's shape and order: the role (chat only), text, the finish reason, usage with empty
``choices``, ``[DONE]``. A token costs us, so what is the same in every chunk of a request is encoded once,
and a text chunk is three byte strings joined.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from backends.api.request import Call
from backends.engines.protocol import Delta, Finish
from backends.errors import ApiError

DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = "text/event-stream; charset=utf-8"


@dataclass(slots=True)
class Answer:
    """What is known about an answer while it is made. ``rvtop`` becomes ``usage.rvtop`` when it is set."""

    call: Call
    request_id: str
    created: int
    model: str
    prompt_ids: tuple[int, ...]
    completion_tokens: int = 0
    finish: Finish | None = None
    rvtop: dict[str, Any] | None = None
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    def take(self, delta: Delta) -> None:
        self.completion_tokens += len(delta.token_ids)
        if delta.finish is not None:
            self.finish = delta.finish

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage. End tokens are counted: they were generated."""
        prompt = len(self.prompt_ids)
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }
        if self.finish is not None and self.finish.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.finish.cached_tokens}
        if self.rvtop is not None:
            usage["rvtop"] = self.rvtop
        return usage


class ChunkWriter:
    """Encodes the chunks of one streamed answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._chat = answer.call.endpoint == "chat"
        head = {
            "id": answer.request_id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": answer.created,
            "model": answer.model,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        key = b'"delta":{"content":' if self._chat else b'"text":'
        self._before = self._head + b'{"index":0,' + key
        self._after_text = (b"}" if self._chat else b"") + b',"logprobs":null'
        self._after = (
            self._after_text + b',"finish_reason":null' + (b"" if self._chat else b',"stop_reason":null')
        )
        # Most requests ask for none of the extras, and then a text chunk ends in constant bytes.
        self._plain = not (answer.call.return_token_ids or answer.call.continuous_usage)
        self._end = self._after + b"}]}\n\n"

    def role(self) -> bytes:
        """The first chunk of a chat answer, which says who speaks; nothing for completions."""
        if not self._chat:
            return b""
        body = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        extra = b""
        if self._answer.call.return_token_ids:
            extra = b',"prompt_token_ids":' + orjson.dumps(self._answer.prompt_ids)
        return self._head + body + self._usage_so_far() + extra + b"}\n\n"

    def delta(self, delta: Delta) -> bytes:
        """A chunk with the text of a delta, and the finish reason if it is the last."""
        text = orjson.dumps(delta.text)
        if self._plain and delta.finish is None:
            return self._before + text + self._end
        after = self._after
        if delta.finish is not None:
            reason, stop = orjson.dumps(delta.finish.reason), orjson.dumps(delta.finish.stop_reason)
            after = self._after_text + b',"finish_reason":' + reason + b',"stop_reason":' + stop
        if self._answer.call.return_token_ids:
            after += b',"token_ids":' + orjson.dumps(delta.token_ids)
        return self._before + text + after + b"}]" + self._usage_so_far() + b"}\n\n"

    def usage(self) -> bytes:
        return self._head + b'],"usage":' + orjson.dumps(self._answer.usage()) + b"}\n\n"

    def _usage_so_far(self) -> bytes:
        if not self._answer.call.continuous_usage:
            return b""
        answer, prompt = self._answer, len(self._answer.prompt_ids)
        counts = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + answer.completion_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        return b',"usage":' + orjson.dumps(counts)


def error_event(error: ApiError) -> bytes:
    """A failure after the 200 went out, as vLLM reports it."""
    return b"data: " + orjson.dumps(error.body()) + b"\n\n"


async def sse(answer: Answer, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[bytes, None]:
    """SSE bytes of an answer; each item is to be flushed. What is known together goes out together: the role
    with the first text, usage and ``[DONE]`` with the last. An ApiError raised by ``deltas`` becomes an
    ``error`` event. Closing this closes ``deltas``."""
    writer = ChunkWriter(answer)
    with_usage = answer.call.include_usage or answer.call.timings
    lead = writer.role()
    async with aclosing(deltas):
        try:
            async for delta in deltas:
                answer.take(delta)
                chunk = lead + writer.delta(delta) if lead else writer.delta(delta)
                lead = b""
                if delta.finish is not None:
                    chunk += (writer.usage() if with_usage else b"") + DONE
                yield chunk
        except ApiError as error:
            yield error_event(error) + DONE


async def collect(answer: Answer, deltas: AsyncGenerator[Delta, None]) -> bytes:
    """The JSON body of an answer that is not streamed. Raises what ``deltas`` raises."""
    async for delta in deltas:
        answer.take(delta)
        answer.text.append(delta.text)
        answer.token_ids.extend(delta.token_ids)
    return full_body(answer)


def full_body(answer: Answer) -> bytes:
    chat, call, finish = answer.call.endpoint == "chat", answer.call, answer.finish
    text = "".join(answer.text)
    choice: dict[str, Any] = {"index": 0}
    choice |= {"message": {"role": "assistant", "content": text, "refusal": None}} if chat else {"text": text}
    choice |= {
        "logprobs": None,
        "finish_reason": finish.reason if finish else None,
        "stop_reason": finish.stop_reason if finish else None,
    }
    if call.return_token_ids:
        choice["token_ids"] = answer.token_ids
        if not chat:
            choice["prompt_token_ids"] = answer.prompt_ids
    body: dict[str, Any] = {
        "id": answer.request_id,
        "object": "chat.completion" if chat else "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [choice],
        "usage": answer.usage(),
    }
    if call.return_token_ids and chat:
        body["prompt_token_ids"] = answer.prompt_ids
    return orjson.dumps(body)
