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

from backends.api import logprobs
from backends.api.request import Call
from backends.api.tools import ToolReader
from backends.engines.protocol import Adapter, Delta, Finish, TokenLogprobs
from backends.errors import ApiError

DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = "text/event-stream; charset=utf-8"


Part = tuple[int, Delta]  # the choice's index, and what was added to it


@dataclass(slots=True)
class Choice:
    """One answer of a request, while it is made."""

    index: int
    prompt_ids: tuple[int, ...]
    tools: ToolReader | None = None
    completion_tokens: int = 0
    characters: int = 0
    finish: Finish | None = None
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def keep(self, delta: Delta) -> None:
        """Keeps what a whole answer says at its end."""
        self.text.append(delta.text)
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs or ())


@dataclass(slots=True)
class Answer:
    """What is known about an answer while it is made: ``call.n`` choices of each prompt, in order.
    ``adapter`` None: the model alone. ``rvtop`` becomes ``usage.rvtop`` when it is set."""

    call: Call
    request_id: str
    created: int
    model: str
    choices: list[Choice]
    adapter: Adapter | None = None
    rvtop: dict[str, Any] | None = None

    def take(self, part: Part) -> None:
        index, delta = part
        choice = self.choices[index]
        choice.completion_tokens += len(delta.token_ids)
        if delta.finish is not None:
            choice.finish = delta.finish

    @property
    def finished(self) -> bool:
        return all(choice.finish is not None for choice in self.choices)

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage, over all choices; a prompt is counted once. End tokens are counted: they were
        generated."""
        usage = self.usage_so_far()
        finished = [choice.finish for choice in self.choices[:: self.call.n] if choice.finish is not None]
        cached = [finish.cached_tokens for finish in finished if finish.cached_tokens is not None]
        if cached:
            usage["prompt_tokens_details"] = {"cached_tokens": sum(cached)}
        if self.rvtop is not None:
            usage["rvtop"] = self.rvtop
        return usage

    def usage_so_far(self) -> dict[str, Any]:
        prompt = sum(len(choice.prompt_ids) for choice in self.choices[:: self.call.n])
        completion = sum(choice.completion_tokens for choice in self.choices)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }


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
        self._key = b'"delta":' if self._chat else b'"text":'
        opened = b'"delta":{"content":' if self._chat else b'"text":'
        self._before = [self._index(choice) + opened for choice in answer.choices]
        self._no_stop = b"" if self._chat else b',"stop_reason":null'
        # Most requests ask for none of the extras, and then a text chunk ends in constant bytes.
        call = answer.call
        extras = call.return_token_ids or call.continuous_usage or call.tools or call.logprobs is not None
        self._plain = not extras
        closed = b"}" if self._chat else b""
        self._end = closed + b',"logprobs":null,"finish_reason":null' + self._no_stop + b"}]}\n\n"

    def _index(self, choice: Choice) -> bytes:
        return self._head + b'{"index":' + str(choice.index).encode() + b","

    def roles(self) -> bytes:
        """The first chunks of a chat answer, which say who speaks; nothing for completions."""
        return b"".join(map(self._role, self._answer.choices)) if self._chat else b""

    def _role(self, choice: Choice) -> bytes:
        body = b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        extra = b""
        if self._answer.call.return_token_ids:
            extra = b',"prompt_token_ids":' + orjson.dumps(choice.prompt_ids)
        return self._index(choice) + body + self._usage_so_far() + extra + b"}\n\n"

    def part(self, part: Part) -> bytes:
        """A chunk with the text of a delta, and the finish reason if it is the last; nothing while it may be
        part of a tool call."""
        index, delta = part
        if self._plain and delta.finish is None:
            return self._before[index] + orjson.dumps(delta.text) + self._end
        choice = self._answer.choices[index]
        added: Any = {"content": delta.text} if self._chat else delta.text
        if choice.tools is not None:
            added = choice.tools.part(delta)
            if added is None and delta.finish is None and not self._answer.call.return_token_ids:
                return b""
            added = added or {}
        chunk = self._index(choice) + self._key + orjson.dumps(added)
        chunk += b',"logprobs":' + orjson.dumps(self._logprobs(choice, delta))
        choice.characters += len(delta.text)
        if delta.finish is None:
            chunk += b',"finish_reason":null' + self._no_stop
        else:
            reason, stop = finish_of(choice, delta.finish)
            chunk += b',"finish_reason":' + orjson.dumps(reason) + b',"stop_reason":' + orjson.dumps(stop)
        if self._answer.call.return_token_ids:
            chunk += b',"token_ids":' + orjson.dumps(delta.token_ids)
        return chunk + b"}]" + self._usage_so_far() + b"}\n\n"

    def usage(self) -> bytes:
        return self._head + b'],"usage":' + orjson.dumps(self._answer.usage()) + b"}\n\n"

    def _logprobs(self, choice: Choice, delta: Delta) -> dict[str, Any] | None:
        top = self._answer.call.logprobs
        if top is None:
            return None
        tokens = delta.logprobs or ()
        return (
            logprobs.of_chat(tokens, top) if self._chat else logprobs.of_text(tokens, top, choice.characters)
        )

    def _usage_so_far(self) -> bytes:
        if not self._answer.call.continuous_usage:
            return b""
        return b',"usage":' + orjson.dumps(self._answer.usage_so_far())


def finish_of(choice: Choice, finish: Finish) -> tuple[str, str | int | None]:
    reason = finish.reason if choice.tools is None else choice.tools.reason(finish.reason)
    return reason, finish.stop_reason


def error_event(error: ApiError) -> bytes:
    """A failure after the 200 went out, as vLLM reports it."""
    return b"data: " + orjson.dumps(error.body()) + b"\n\n"


async def sse(
    answer: Answer, parts: AsyncGenerator[Part, None], first: Part | None = None
) -> AsyncGenerator[bytes, None]:
    """SSE bytes of an answer; each item is to be flushed. What is known together goes out together: the roles
    with the first text, usage and ``[DONE]`` with the last. An ApiError raised by ``parts`` becomes an
    ``error`` event. Closing this closes ``parts``; ``first`` was taken out of them already."""
    writer = ChunkWriter(answer)
    with_usage = answer.call.include_usage or answer.call.timings
    lead = writer.roles()

    def chunk_of(part: Part) -> bytes:
        answer.take(part)
        chunk = writer.part(part)
        if part[1].finish is not None and answer.finished:
            chunk += (writer.usage() if with_usage else b"") + DONE
        return chunk

    async with aclosing(parts):
        try:
            if first is not None:
                if chunk := lead + chunk_of(first):
                    yield chunk
                lead = b""
            async for part in parts:
                chunk = lead + chunk_of(part) if lead else chunk_of(part)
                lead = b""
                if chunk:
                    yield chunk
        except ApiError as error:
            yield error_event(error) + DONE


async def collect(answer: Answer, parts: AsyncGenerator[Part, None]) -> bytes:
    """The JSON body of an answer that is not streamed. Raises what ``parts`` raises."""
    async for part in parts:
        answer.take(part)
        answer.choices[part[0]].keep(part[1])
    return full_body(answer)


def full_body(answer: Answer) -> bytes:
    chat, call = answer.call.endpoint == "chat", answer.call
    body: dict[str, Any] = {
        "id": answer.request_id,
        "object": "chat.completion" if chat else "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [_whole(choice, call) for choice in answer.choices],
        "usage": answer.usage(),
    }
    if call.return_token_ids and chat:
        body["prompt_token_ids"] = answer.choices[0].prompt_ids
    return orjson.dumps(body)


def _whole(choice: Choice, call: Call) -> dict[str, Any]:
    text, finish = "".join(choice.text), choice.finish
    said: dict[str, Any] = {"text": text}
    if call.endpoint == "chat":
        spoken = {"content": text} if choice.tools is None else choice.tools.whole(text, choice.token_ids)
        said = {"message": {"role": "assistant", "refusal": None, **spoken}}
    told = None
    if call.logprobs is not None:
        of = logprobs.of_chat if call.endpoint == "chat" else logprobs.of_text
        told = of(choice.logprobs, call.logprobs)
    reason, stop = finish_of(choice, finish) if finish else (None, None)
    whole = {"index": choice.index, **said, "logprobs": told, "finish_reason": reason, "stop_reason": stop}
    if call.return_token_ids:
        whole["token_ids"] = choice.token_ids
        if call.endpoint == "completions":
            whole["prompt_token_ids"] = choice.prompt_ids
    return whole
