"""Streams of messages and responses, and answers in one piece: however they are cut, the reader learns the
same from them, and a part of one is never a whole one.

The reference reads the whole body at once, by the book; it shares with the readers the parser of nothing.
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.plan.api import Api
from rvtop.load.wire.answer import answers_of
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.native_reads import add_gaps
from rvtop.load.wire.record import ERRORS, Record, lines
from rvtop.load.wire.response_text import answer_text

T0, STEP = 1_000, 1_000


@dataclass
class Facts:
    """What there is to know of an answer; times are numbers of reads."""

    error: str | None = None
    finish: str | None = None
    chunks: int = 0
    output: int | None = None
    prompt: int | None = None
    cached: int | None = None
    first: int | None = None
    last: int | None = None
    gaps: list[int] = field(default_factory=list)
    text: str = ""


# ---- the reference


def events_of(body: bytes) -> list[tuple[dict[str, Any] | None, int]]:
    """(JSON, end) of each whole event; None for [DONE]."""
    found, at = [], 0
    while (end := body.find(b"\n\n", at)) >= 0:
        data = [line[6:] for line in body[at:end].split(b"\n") if line.startswith(b"data: ")]
        if data:
            found.append((None if data[0] == b"[DONE]" else json.loads(data[0]), end + 2))
        at = end + 2
    return found


def reference(endpoint: str, body: bytes, read_of: Any) -> Facts:
    facts, closed, end = Facts(), False, 0
    for event, ends in events_of(body):
        if event is None or closed:
            break
        end = ends
        kind = event["type"]
        if kind == "error":
            facts.error = "stream_error"
            break
        said = said_of(endpoint, event)
        if said is not None:
            facts.text += said[1]
            now = read_of(end)
            if facts.first is None:
                facts.first = now
            else:
                facts.gaps.append(now - facts.last)
            facts.last, facts.chunks = now, facts.chunks + 1
        if kind in ("message_start", "message_delta"):
            usage = event["message"]["usage"] if kind == "message_start" else event["usage"]
            facts.output = usage["output_tokens"]
            if "input_tokens" in usage:
                cached = usage.get("cache_read_input_tokens")
                facts.prompt = usage["input_tokens"] + (cached or 0)
                facts.cached = cached if cached is not None else facts.cached
            if kind == "message_delta":
                facts.finish = event["delta"]["stop_reason"]
        if kind in ("response.completed", "response.incomplete"):
            response = event["response"]
            facts.output = response["usage"]["output_tokens"]
            facts.prompt = response["usage"]["input_tokens"]
            facts.cached = response["usage"]["input_tokens_details"]["cached_tokens"]
            facts.finish = (response.get("incomplete_details") or {}).get("reason") or response["status"]
        closed = kind in ("message_stop", "response.completed", "response.incomplete")
    if facts.error is None and not closed:
        facts.error = "truncated"
    elif facts.error is None and facts.first is None and facts.output:
        facts.first = facts.last = read_of(end)  # a token without text of its own
    elif facts.error is None and facts.first is None:
        facts.error = "empty"
    return facts


def said_of(endpoint: str, event: dict[str, Any]) -> tuple[str, str] | None:
    """(what came, of it the text of the answer), if the event brings a token."""
    delta = event.get("delta")
    if endpoint == "responses":
        if not event["type"].endswith(".delta") or not delta:
            return None
        return delta, delta if event["type"] == "response.output_text.delta" else ""
    if event["type"] != "content_block_delta":
        return None
    said = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
    return (said, delta.get("text", "")) if said else None


def is_one_token(pattern: tuple[bytes, bytes] | None, piece: bytes) -> bool:
    """Whether C counts a piece (``token_chunk`` in answers.c) instead of handing it over."""
    if pattern is None or len(piece) <= len(pattern[0]) + len(pattern[1]):
        return False
    inside = piece[len(pattern[0]) : len(piece) - len(pattern[1])]
    around = piece.startswith(pattern[0]) and piece.endswith(pattern[1])
    return around and re.fullmatch(rb'(?:[^"\\]|\\.)*', inside, re.DOTALL) is not None


def read(
    endpoint: str,
    body: bytes,
    cuts: list[int],
    *,
    keep: bool = False,
    stream: bool = True,
    natively: bool = False,
) -> Facts:
    """What the reader learns of ``body`` cut at ``cuts``; ``natively``: C counts what it would."""
    record, fresh = Record(1, 0, 0, 0, T0), Fresh()
    record.body = [] if keep else None
    answer = answers_of(Api(endpoint, stream))(record, fresh)
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    for number, piece in enumerate(pieces):
        now = T0 + (number + 1) * STEP
        if natively and record.error is None and is_one_token(answer.pattern, piece):
            gap = array("q", [now - record.last_ns])
            fresh.gaps_ns.extend(gap)
            add_gaps(record, gap.tobytes(), now)
        elif record.error is None:
            answer.feed(piece, now)
    answer.end(T0 + (len(pieces) + 1) * STEP)
    assert json.loads(lines([record], 0, ["p"], ["m"], 0))["error"] == record.error
    if record.error is None and stream:
        assert answer.whole
        assert fresh.gaps_ns == record.gaps
        assert fresh.ttft_ns.tolist() == [record.first_ns - T0]

    def number_of(ns: int) -> int | None:
        return (ns - T0) // STEP - 1 if ns else None

    return Facts(
        error=record.error,
        finish=record.finish,
        chunks=record.chunks,
        output=record.output_tokens,
        prompt=record.prompt_tokens,
        cached=record.cached_tokens,
        first=number_of(record.first_ns),
        last=number_of(record.last_ns),
        gaps=[gap // STEP for gap in record.gaps],
        text=answer_text(record.body or ()) if record.error is None else "",
    )


def expected(endpoint: str, body: bytes, cuts: list[int], *, keep: bool = False) -> Facts:
    edges = [*cuts, len(body)]

    def read_of(offset: int) -> int:
        return next(i for i, edge in enumerate(edges) if edge >= offset)

    facts = reference(endpoint, body, read_of)
    return facts if keep and facts.error is None else Facts(**{**vars(facts), "text": ""})


# ---- streams

TRICKY = (
    '"text":"',
    '"}}\n\n',
    "data: [DONE]",
    "event: message_stop\n",
    '"',
    "\\",
    '\\"',
    "\n",
    "가나다",
    "",
)
texts = st.one_of(
    st.sampled_from([" token", "안녕", *TRICKY]), st.text(st.characters(codec="utf-8"), max_size=9)
)


def spelled(event: dict[str, Any], spaced: bool, named: bool) -> bytes:
    text = json.dumps(event, ensure_ascii=False, separators=None if spaced else (",", ":"))
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {text}\n\n".encode()


@st.composite
def message_events(draw: st.DrawFn) -> list[dict[str, Any]]:
    usage = {"input_tokens": 7, "output_tokens": 0, "cache_read_input_tokens": draw(st.sampled_from([0, 3]))}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"usage": usage}}]
    kinds = draw(st.lists(st.sampled_from(["text", "text", "thinking", "partial_json"]), max_size=3))
    count = 0
    for index, kind in enumerate(kinds):
        name = {"partial_json": "input_json"}.get(kind, kind) + "_delta"
        events.append(
            {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        )
        for said in draw(st.lists(texts, max_size=6)):
            count += 1
            events.append(
                {"type": "content_block_delta", "index": index, "delta": {"type": name, kind: said}}
            )
            if draw(st.integers(0, 5)) == 0:
                events.append({"type": "ping"})
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": draw(st.sampled_from(["end_turn", "max_tokens", "tool_use"]))}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": count}})
    return [*events, {"type": "message_stop"}]


@st.composite
def response_events(draw: st.DrawFn) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"status": "in_progress", "error": None}}
    ]
    count = 0
    for said in draw(st.lists(texts, max_size=12)):
        kind = draw(
            st.sampled_from(["output_text", "output_text", "output_text", "reasoning_text", "refusal"])
        )
        count += 1
        events.append({"type": f"response.{kind}.delta", "delta": said, "sequence_number": count})
    done = draw(st.booleans())
    response = {
        "status": "completed" if done else "incomplete",
        "incomplete_details": None if done else {"reason": "max_output_tokens"},
        "error": None,
        "usage": {"input_tokens": 9, "output_tokens": count, "input_tokens_details": {"cached_tokens": 4}},
    }
    return [*events, {"type": f"response.{response['status']}", "response": response}]


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, bytes, list[int]]:
    """(endpoint, body, ends of its events)."""
    endpoint = draw(st.sampled_from(["messages", "responses"]))
    events = draw(message_events() if endpoint == "messages" else response_events())
    if draw(st.integers(0, 9)) == 0:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        if endpoint == "responses":
            error = {"type": "error", "code": "server_error", "message": "Overloaded"}
        events.insert(draw(st.integers(0, len(events))), error)
    spaced, named = draw(st.booleans()), draw(st.integers(0, 4)) > 0
    body, ends = b"", []
    for event in events:
        body += spelled(event, spaced, named)
        ends.append(len(body))
    if draw(st.booleans()):
        body += b"data: [DONE]\n\n"
    return endpoint, body, ends


@settings(max_examples=250, deadline=None, derandomize=True)
@given(streams(), st.data())
def test_any_splitting_tells_what_the_reference_reads(
    case: tuple[str, bytes, list[int]], data: st.DataObject
) -> None:
    endpoint, body, ends = case
    how = data.draw(st.sampled_from(["whole", "events", "bytes", "anywhere", "both"]))
    cuts = set(ends) if how in ("events", "both") else set()
    if how == "bytes":
        cuts = set(range(len(body)))
    if how in ("anywhere", "both"):
        cuts |= set(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    at = sorted(cuts - {0, len(body)})
    keep, natively = data.draw(st.booleans()), data.draw(st.booleans())
    assert read(endpoint, body, at, keep=keep, natively=natively) == expected(endpoint, body, at, keep=keep)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(streams())
def test_a_stream_cut_at_any_byte_before_its_closing_event_is_no_whole_one(
    case: tuple[str, bytes, list[int]],
) -> None:
    endpoint, body, ends = case
    closing = ends[-1] - 2  # a blank line that is missing at the end is forgiven
    for at in range(0, closing):
        found = read(endpoint, body[:at], [])
        assert found.error is not None, body[:at]
    assert read(endpoint, body, []).error == expected(endpoint, body, []).error


WHOLE: dict[str, dict[str, Any]] = {
    "embeddings": {
        "data": [{"embedding": [0.5], "index": 0}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    },
    "rerank": {"results": [{"index": 0, "relevance_score": 1.0}], "usage": {"total_tokens": 7}},
    "responses": {
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "ja"}]}],
        "usage": {"input_tokens": 7, "output_tokens": 2},
    },
    "messages": {
        "id": "가",
        "content": [{"type": "text", "text": "ja"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 2},
    },
    "chat": {
        "choices": [{"message": {"content": "ja"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    },
    "completions": {
        "choices": [{"text": "ja", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    },
}


@pytest.mark.parametrize("endpoint", WHOLE)
def test_an_answer_in_one_piece_cut_at_any_byte_is_truncated_and_whole_it_is_read(endpoint: str) -> None:
    body = json.dumps(WHOLE[endpoint], ensure_ascii=False).encode()
    for at in range(1, len(body)):
        found = read(endpoint, body, [at], stream=False, keep=True)
        makes_tokens = endpoint not in ("embeddings", "rerank")
        assert (found.error, found.prompt, found.output) == (None, 7, 2 if makes_tokens else None)
        assert (found.first, found.last, found.chunks) == (None, 2, 0)
        assert found.text == ("ja" if makes_tokens else "")
        assert read(endpoint, body[:at], [], stream=False).error == "truncated"
    assert read(endpoint, b"", [], stream=False).error == "empty"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([(name, stream) for name in WHOLE for stream in (False, True)]),
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"data: ",
                    b"event: message_stop\n",
                    b"\n\n",
                    b"{",
                    b"}",
                    b"[DONE]",
                    b'data: {"type":"message_stop"}\n\n',
                    b'data: {"type":"content_block_delta","delta":7}\n\n',
                    b'data: {"type":"content_block_delta","delta":{"text":["x"]}}\n\n',
                    b'data: {"type":"message_start","message":[]}\n\n',
                    b'data: {"type":"message_delta","usage":{"output_tokens":-1,"input_tokens":1e99}}\n\n',
                    b'data: {"type":"response.output_text.delta","delta":{"a":1}}\n\n',
                    b'data: {"type":"response.completed"}\n\n',
                    b'data: {"type":"response.completed","response":{"usage":[],"output":0}}\n\n',
                    b'data: {"type":["x"]}\n\n',
                    b'{"data":[1],"usage":{"prompt_tokens":18446744073709551615}}',
                    b'{"output":0,"status":{},"usage":7}',
                    b'{"choices":[null]}',
                    b'{"results":[],"error":"\\u001b[31mred"}',
                ]
            ),
            st.binary(max_size=12),
        ),
        max_size=12,
    ).map(b"".join),
    st.lists(st.integers(0, 200), max_size=6),
    st.booleans(),
)
def test_any_bytes_end_in_one_verdict(kind: tuple[str, bool], body: bytes, at: list[int], lost: bool) -> None:
    record = Record(1, 0, 0, 0, T0)
    answer = answers_of(Api(*kind))(record, Fresh())
    cuts = sorted({cut for cut in at if cut < len(body)})
    for number, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(body)], strict=True)):
        answer.feed(body[a:b], T0 + number)
    answer.end(T0 + 99, "the connection broke" if lost else "")
    assert record.error is None or record.error in ERRORS
    assert (record.error is None) <= (record.last_ns > 0)
    assert not {"\n", "\x1b"} & set(record.error_text)
    row = json.loads(lines([record], 0, ["p"], ["m"], 0))
    counted = (row["output_tokens"], row["prompt_tokens"], row["cached_tokens"])
    assert all(count is None or 0 <= count < 1 << 62 for count in counted)


def test_a_plain_message_is_counted_without_parsing_its_events() -> None:
    record = Record(1, 0, 0, 0, T0)
    answer = answers_of(Api("messages"))(record, Fresh())

    def delta(text: str) -> bytes:
        said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return spelled(said, False, True)

    answer.feed(delta("a"), 1)
    assert answer.pattern is not None
    before, after = answer.pattern
    assert before + b"b" + after == delta("b")
    for number in range(20):
        answer.feed(delta(f" token{number}"), 2)
    assert (record.chunks, answer.events) == (21, 1)  # type: ignore[attr-defined]
