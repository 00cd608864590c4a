"""The mock in plain Python with further endpoints: embeddings, rerank, responses, messages.

Times and log are the mock's own. An answer of embeddings or rerank is one "token" of the log: ``last_ns`` is
when it was written. Usage counts are functions of the request (about four bytes of its body to a token), so
that a test knows them. Shapes are those of vLLM 0.29 (``vllm/entrypoints``).
"""

from __future__ import annotations

import json
from typing import Any

from tests.mock.server import Server, main
from tests.mock.wire import WORDS, Stream, chunk

#: Prompt tokens of messages and responses that a cache had, of those of the request.
CACHED_SHARE = 4
_DIMENSIONS = 8


def _dumped(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return chunk(f"event: {kind}\ndata: {_dumped({'type': kind, **data})}\n\n")


def _word(i: int) -> str:
    return WORDS[i % len(WORDS)]


# ---- messages


def message_usage(s: Stream, output: int) -> dict[str, Any]:
    """Anthropic counts what a cache had apart."""
    cached = s.prompt_tokens // CACHED_SHARE
    return {
        "input_tokens": s.prompt_tokens - cached,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    }


def _message(s: Stream, content: list[dict[str, Any]], output: int) -> dict[str, Any]:
    return {
        "id": f"msg-{s.id}",
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": s.model.name,
        "stop_reason": "max_tokens" if output else None,
        "usage": message_usage(s, output),
    }


def message_tokens(s: Stream, to: int) -> bytes:
    """Events of ``/v1/messages``."""
    parts = []
    if s.sent == 0:
        parts.append(_event("message_start", {"message": _message(s, [], 0)}))
        parts.append(
            _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        )
        parts.append(_event("ping", {}))
    for i in range(s.sent, to):
        parts.append(
            _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": _word(i)}})
        )
    if to == s.n:
        ending = {"delta": {"stop_reason": "max_tokens"}, "usage": message_usage(s, s.n)}
        parts += [
            _event("content_block_stop", {"index": 0}),
            _event("message_delta", ending),
            _event("message_stop", {}),
            chunk("data: [DONE]\n\n"),
            b"0\r\n\r\n",
        ]
    return b"".join(parts)


# ---- responses


def _response(s: Stream, output: int) -> dict[str, Any]:
    text = "".join(_word(i) for i in range(output))
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"id": f"msg-{s.id}", "type": "message", "role": "assistant", "content": content}
    usage = {
        "input_tokens": s.prompt_tokens,
        "input_tokens_details": {"cached_tokens": s.prompt_tokens // CACHED_SHARE},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": s.prompt_tokens + output,
    }
    return {
        "id": f"resp-{s.id}",
        "object": "response",
        "status": "incomplete" if output else "in_progress",
        "incomplete_details": {"reason": "max_output_tokens"} if output else None,
        "error": None,
        "model": s.model.name,
        "output": [message] if output else [],
        "usage": usage if output else None,
    }


def response_tokens(s: Stream, to: int) -> bytes:
    """Events of ``/v1/responses``, numbered."""
    parts, number = [], 3 + s.sent
    where = {"item_id": f"msg-{s.id}", "output_index": 0, "content_index": 0}
    if s.sent == 0:
        for i, kind in enumerate(("response.created", "response.in_progress")):
            parts.append(_event(kind, {"response": _response(s, 0), "sequence_number": i}))
        item = {"id": f"msg-{s.id}", "type": "message", "role": "assistant", "content": []}
        parts.append(_event("response.output_item.added", {"item": item, "sequence_number": 2}))
    for i in range(s.sent, to):
        said = {**where, "delta": _word(i), "logprobs": [], "sequence_number": number}
        parts.append(_event("response.output_text.delta", said))
        number += 1
    if to == s.n:
        text = "".join(_word(i) for i in range(s.n))
        parts.append(_event("response.output_text.done", {**where, "text": text, "sequence_number": number}))
        last = {"response": _response(s, s.n), "sequence_number": number + 1}
        parts += [_event("response.incomplete", last), b"0\r\n\r\n"]
    return b"".join(parts)


# ---- in one piece


def embeddings(s: Stream) -> dict[str, Any]:
    """A vector for each text."""
    vector = [0.125] * _DIMENSIONS
    return {
        "id": f"embd-{s.id}",
        "object": "list",
        "created": s.created,
        "model": s.model.name,
        "data": [{"index": i, "object": "embedding", "embedding": vector} for i in range(s.items)],
        "usage": {"prompt_tokens": s.prompt_tokens, "total_tokens": s.prompt_tokens, "completion_tokens": 0},
    }


def rerank(s: Stream) -> dict[str, Any]:
    """A score for each document, and usage with a count that is the total's alone."""
    results = [{"index": i, "document": {"text": ""}, "relevance_score": 0.5} for i in range(s.items)]
    return {
        "id": f"rerank-{s.id}",
        "model": s.model.name,
        "usage": {"total_tokens": s.prompt_tokens},
        "results": results,
    }


class EndpointsServer(Server):
    """The mock with further paths."""

    paths = (*Server.paths, "/v1/embeddings", "/v1/rerank", "/v1/responses", "/v1/messages")

    def missing(self, path: str, asked: dict[str, Any]) -> str:
        needs = {"embeddings": "input", "rerank": "documents", "responses": "input", "messages": "max_tokens"}
        field = needs.get(path.removeprefix("/v1/"), "")
        return "" if field in asked else field

    def prepare(self, s: Stream, path: str, asked: dict[str, Any]) -> None:
        s.path = path.removeprefix("/v1/")
        if s.path in ("embeddings", "rerank"):
            given = asked.get("input" if s.path == "embeddings" else "documents")
            s.items = len(given) if isinstance(given, list) else 1
            s.n, s.sse = 1, False
        elif s.path == "responses":
            s.n = int(asked.get("max_output_tokens") or self.tokens)

    def tokens_of(self, s: Stream, to: int) -> bytes:
        if s.path == "messages":
            return message_tokens(s, to)
        return response_tokens(s, to) if s.path == "responses" else super().tokens_of(s, to)

    def whole_of(self, s: Stream) -> bytes:
        if s.path == "embeddings":
            return _dumped(embeddings(s)).encode()
        if s.path == "rerank":
            return _dumped(rerank(s)).encode()
        if s.path == "responses":
            return _dumped(_response(s, s.n)).encode()
        if s.path == "messages":
            text = "".join(_word(i) for i in range(s.n))
            return _dumped(_message(s, [{"type": "text", "text": text}], s.n)).encode()
        return super().whole_of(s)


if __name__ == "__main__":
    main(EndpointsServer)
