"""However a stream is spelled and cut, the reader learns the same from it; anything gets one verdict.

The reference below reads the whole body at once, by the book: every event, every JSON. It knows nothing of
quick ways, so agreement with it means that the quick ways and the careful one agree.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.record import ERRORS, Record, lines
from rvtop.load.wire.sse import MAX_EVENT_BYTES, SseError, SseParser

T0 = 1_000  # the intended time; read number i happens at T0 + (i + 1) * STEP
STEP = 1_000

# ---- the reference


@dataclass
class Facts:
    """What there is to know of a stream; times are numbers of reads."""

    error: str | None = None
    finish: str | None = None
    chunks: int = 0
    output: int | None = None
    prompt: int | None = None
    cached: int | None = None
    first: int | None = None
    last: int | None = None
    gaps: list[int] = field(default_factory=list)  # in reads
    engine: str | None = None


def events_of(body: bytes) -> list[tuple[bytes, int, bool]]:
    """(data, bytes read when it is complete, whether the body ended in it) of each event."""
    body_lines, at = [], 0
    for end in re.finditer(rb"\r\n|\n|\r", body):
        body_lines.append((body[at : end.start()], end.start() + 1, False))
        at = end.end()
    body_lines += [(body[at:], len(body) + 1, True), (b"", len(body) + 1, True)]
    body_lines[0] = (body_lines[0][0].removeprefix(b"\xef\xbb\xbf"), *body_lines[0][1:])
    found, data = [], []
    for text, offset, cut in body_lines:
        name, _, value = text.partition(b":")
        if not text:
            if data:
                found.append((b"\n".join(data), offset, cut))
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return found


def is_token(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    said = [delta.get(key) for key in ("content", "reasoning_content", "reasoning", "tool_calls")]
    return any(said) or bool(choice.get("text")) or bool(choice.get("token_ids"))


def reference(body: bytes, read_of: Any) -> Facts:
    """The facts of ``body``; ``read_of(offset)`` numbers the read that brought the byte before ``offset``."""
    facts, done, finished_at, seen = Facts(), False, None, 0
    for data, offset, cut in events_of(body):
        seen += 1
        if data == b"[DONE]":
            done = True
            break
        try:
            chunk = json.loads(data)
        except ValueError:
            if cut:  # the body ended in the middle of it
                break
            facts.error = "bad_stream"
            return facts
        if chunk.get("error"):
            facts.error = "stream_error"
            return facts
        usage = chunk.get("usage")
        if usage:
            facts.output = usage.get("completion_tokens", facts.output)
            facts.prompt = usage.get("prompt_tokens", facts.prompt)
            facts.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", facts.cached)
            facts.engine = (usage.get("rvtop") or {}).get("engine", facts.engine)
        for choice in chunk.get("choices", [])[:1]:
            now = read_of(offset)
            if is_token(choice):
                if facts.first is None:
                    facts.first = now
                else:
                    facts.gaps.append(now - facts.last)
                facts.last = now
                facts.chunks += 1
            if choice.get("finish_reason"):
                facts.finish, finished_at = choice["finish_reason"], now
    if not (done or facts.finish):
        facts.error = "truncated" if seen else "bad_stream" if body else "empty"
    elif facts.first is None and facts.output and finished_at is not None:
        facts.first = facts.last = finished_at
    elif facts.first is None:
        facts.error = "empty"
    return facts


# ---- what is read


def timeless(record: Record) -> Facts:
    """What a record has learned, but no time; its gaps are so many of 0."""
    return Facts(
        error=record.error,
        finish=record.finish,
        chunks=record.chunks,
        output=record.output_tokens,
        prompt=record.prompt_tokens,
        cached=record.cached_tokens,
        gaps=[0] * len(record.gaps),
        engine=record.engine,
    )


def read(body: bytes, cuts: list[int]) -> Facts:
    """What the reader learns of ``body`` cut at ``cuts``."""
    record, fresh = Record(1, 0, 0, 0, T0), Fresh()
    stream = Completion(record, fresh)
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    for number, piece in enumerate(pieces):
        if record.error is None:
            stream.feed(piece, T0 + (number + 1) * STEP)
    stream.end(T0 + (len(pieces) + 1) * STEP)
    assert len(lines([record], 0, ["p"], ["m"], 0).splitlines()) == 1
    if record.error is None:  # the live view and the record tell the same
        assert fresh.gaps_ns == record.gaps
        assert fresh.ttft_ns.tolist() == [record.first_ns - T0]

    def number_of(ns: int) -> int | None:
        return (ns - T0) // STEP - 1 if ns else None

    return replace(
        timeless(record),
        first=number_of(record.first_ns),
        last=number_of(record.last_ns),
        gaps=[gap // STEP for gap in record.gaps],
    )


def expected(body: bytes, cuts: list[int]) -> Facts:
    """What the reference learns of it."""
    edges = [*cuts, len(body)]

    def read_of(offset: int) -> int:
        return next((i for i, edge in enumerate(edges) if edge >= offset), len(edges))

    return reference(body, read_of)


# ---- streams

TRICKY = (
    "data: {",
    "data: [DONE]\n\n",
    '"content":"',
    '"text":"',
    '"finish_reason":null',
    '"finish_reason":"stop"',
    '"usage":{',
    '{"error":"x"}',
    "}\n\n",
    "}\r\n\r\n",
    '"',
    "\\",
    "\\\\",
    '\\"',
    "\n",
    "\r",
    "가나다",
    "\U0001f600",
    "\x7f",
    "\u2028",
    '"},"finish_reason":null',
)
texts = st.one_of(
    st.sampled_from([" token", " the", "안녕", "a", "x y"]),
    st.sampled_from(TRICKY),
    st.lists(st.sampled_from(TRICKY), max_size=4).map("".join),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
spoken = texts.filter(bool)


@st.composite
def choices(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """One choice of a stream of ``kind``."""
    if kind == "text":
        choice: dict[str, Any] = {"index": 0, "text": draw(st.one_of(spoken, st.just("")))}
        if draw(st.integers(0, 9)) == 0:
            choice["token_ids"] = draw(st.sampled_from([None, [], [7]]))
    else:
        delta: dict[str, Any] = {}
        what = draw(st.sampled_from([kind] * 12 + ["role", "empty", "null", "nothing", "content", "tool"]))
        if what == "role":
            delta = {"role": "assistant", "content": ""}
        elif what == "empty":
            delta = {"content": ""}
        elif what == "null":
            delta = {"content": None, "reasoning": None}
        elif what == "tool":
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": draw(texts)}}]}
        elif what != "nothing":
            delta = {what: draw(spoken)}
            if draw(st.integers(0, 5)) == 0:
                delta = {"content": "", **delta} if what != "content" else {**delta, "reasoning": None}
        choice = {"index": 0, "delta": delta}
    if draw(st.booleans()):
        choice["logprobs"] = draw(st.sampled_from([None, {"content": [{"token": "content", "logprob": -1}]}]))
    choice["finish_reason"] = None
    return choice


def counts(draw: st.DrawFn, tokens: int) -> dict[str, Any]:
    usage: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    if draw(st.booleans()):
        usage["prompt_tokens_details"] = draw(st.sampled_from([None, {"cached_tokens": 4}]))
    if draw(st.booleans()):
        usage["rvtop"] = {"engine": "q#0", "queue_ms": 1.5}
    return usage


@st.composite
def chunks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The chunks of a stream, in one server's habits."""
    kind = draw(st.sampled_from(["content", "content", "reasoning", "reasoning_content", "tool", "text"]))
    said = draw(st.lists(choices(kind), max_size=24))
    if said and draw(st.integers(0, 4)):
        said[-1]["finish_reason"] = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    continuous = draw(st.integers(0, 3)) == 0
    out: list[dict[str, Any]] = []
    if kind != "text" and draw(st.booleans()):
        out.append({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    for number, choice in enumerate(said):
        usage = {"usage": counts(draw, number)} if continuous else {}
        out.append({"choices": [choice], **usage})
    if draw(st.booleans()):
        out.append({"choices": [], "usage": counts(draw, len(said))})
    if draw(st.integers(0, 9)) == 0:
        out.insert(draw(st.integers(0, len(out))), {"error": {"message": "CUDA error", "code": 500}})
    if draw(st.integers(0, 4)) == 0:
        out = [{"id": "1", "x": {"content": "no token", "finish_reason": None}, **one} for one in out]
    return [{"id": "chatcmpl-1", "model": "m", **one, "usage": one.get("usage")} for one in out]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """A valid stream and the ends of its events."""
    spaced, escaped = draw(st.booleans()), draw(st.booleans())
    colon = draw(st.sampled_from([b"data: ", b"data: ", b"data:"]))
    newline = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"]))
    noise = draw(st.integers(0, 3)) == 0
    many = draw(st.integers(0, 9)) == 0
    events: list[list[bytes]] = []
    for one in draw(chunks()):
        text = json.dumps(
            one,
            ensure_ascii=escaped,
            separators=None if spaced else (",", ":"),
            indent=1 if many else None,
        )
        body_lines = [colon + line.encode() for line in text.split("\n")]
        if noise:
            before = draw(st.sampled_from([[], [b": ping"], [b": ping", b""], [b"event: message", b"id: 3"]]))
            body_lines = [*before, *body_lines, *draw(st.sampled_from([[], [b"retry: 10"], [b":"]]))]
        events.append([*body_lines, b""])
    if draw(st.integers(0, 4)):
        events.append([colon + b"[DONE]", b""])
        if draw(st.integers(0, 4)) == 0:
            events += [[b": bye", b""], events[draw(st.integers(0, len(events) - 1))]]
    if events and draw(st.integers(0, 9)) == 0:
        events[-1] = events[-1][:-1]  # the last blank line is forgotten
    body = b"\xef\xbb\xbf" if draw(st.integers(0, 9)) == 0 else b""
    ends = []
    for event in events:
        body += b"".join(line + newline for line in event)
        ends.append(len(body))
    return body, ends


@st.composite
def cut_bodies(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """A valid stream and where reads cut it: between events, in groups of them, anywhere, or everywhere."""
    body, ends = draw(bodies())
    how = draw(
        st.sampled_from(["whole", "events", "events", "groups", "groups", "bytes", "anywhere", "both"])
    )
    cuts: set[int] = set()
    if how in ("events", "both"):
        cuts |= set(ends)
    if how == "groups" and ends:
        cuts |= set(draw(st.lists(st.sampled_from(ends), max_size=8)))
    if how == "bytes":
        cuts |= set(range(len(body)))
    if how in ("anywhere", "both") and body:
        cuts |= set(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return body, sorted(cuts - {0, len(body)})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cut_bodies())
def test_any_splitting_of_any_stream_tells_what_the_reference_reads(case: tuple[bytes, list[int]]) -> None:
    body, cuts = case
    assert read(body, cuts) == expected(body, cuts)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(bodies(), st.integers(1, 40))
def test_a_stream_cut_short_is_judged_alike_however_it_was_split(
    case: tuple[bytes, list[int]], size: int
) -> None:
    body, _ = case
    body = body[: len(body) * 2 // 3]
    cuts = list(range(size, len(body), size))
    assert read(body, cuts) == expected(body, cuts)


def vllm(text: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish, **more}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def test_the_quick_ways_are_taken() -> None:
    """Of a plain stream only the first token, what ends it and the usage go the careful way."""
    record = Record(1, 0, 0, 0, T0)
    stream = Completion(record, Fresh())
    stream.feed(vllm("a"), 1)
    for number in range(50):
        stream.feed(vllm(f" token{number}"), 2)
        stream.feed(vllm('a "quoted" text\n'), 3)
        stream.feed(vllm("b") + vllm("c") + vllm('d"'), 4)
    stream.feed(vllm("", "stop") + b"data: [DONE]\n\n", 5)
    assert stream.events == 3
    assert (record.chunks, record.finish, len(record.gaps)) == (251, "stop", 250)


LOOK_ALIKES = {
    "empty text": vllm("", logprobs=None),
    "finish": vllm("x", "stop"),
    "empty text, then a key": vllm("x").replace(b'"content":"x"', b'"content":"","role":"assistant"'),
    "null": vllm("x").replace(b'"content":"x"', b'"content":null'),
    "another finish": vllm("x").replace(b'"finish_reason":null', b'"finish_reason":"length"'),
    "empty text last": vllm("x") + vllm(""),
    "empty text first": vllm("") + vllm("x"),
    "blank line in the next read": vllm("x")[:-1],
    "no blank line before the end": vllm("x")[:-1] + b"data: [DONE]\n\n",
    "after the end": b"data: [DONE]\n\n" + vllm("x"),
    "an error behind it": vllm("x") + b'data: {"error":{"message":"broken"}}\n\n',
    "usage behind it": vllm("x") + b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\n',
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_looks_like_a_token_but_is_none(name: str) -> None:
    body = vllm("a") + LOOK_ALIKES[name] + vllm("z", "stop")
    cuts = [len(vllm("a")), len(vllm("a")) + len(LOOK_ALIKES[name])]
    assert read(body, cuts) == expected(body, cuts)


def test_a_line_end_of_one_cr_dates_the_event_by_its_own_read() -> None:
    body = vllm("a").replace(b"\n", b"\r") + vllm("b", "stop").replace(b"\n", b"\r")
    facts = read(body, [len(vllm("a"))])
    assert (facts.first, facts.last, facts.gaps) == (0, 1, [1])


# ---- anything at all

TOKENS = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"{",
        b"}",
        b"[DONE]",
        b"{}",
        b"[1]",
        b"null",
        b"1e999",
        b'"',
        b"\\",
        b": ping\n\n",
        vllm("x"),
        vllm("y", "stop"),
        b'data: {"choices":[{"delta":[]}]}\n\n',
        b'data: {"choices":[null]}\n\n',
        b'data: {"choices":{}}\n\n',
        b'data: {"choices":[{"delta":{"content":{"a":1}},"finish_reason":7}]}\n\n',
        b'data: {"error":""}\n\n',
        b'data: {"error":["x"]}\n\n',
        b'data: {"usage":[]}\n\n',
        b'data: {"usage":{"completion_tokens":-1,"prompt_tokens":true,"rvtop":{"a":[],"engine":5}}}\n\n',
        b'data: {"usage":{"completion_tokens":18446744073709551615,"prompt_tokens":1.5}}\n\n',
        b'data: {"usage":{"rvtop":' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}}\n\n",
        "가".encode()[:2],
        b"\xff\xfe",
        b"\x00",
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.one_of(st.lists(st.one_of(TOKENS, st.binary(max_size=20)), max_size=20).map(b"".join), st.binary()),
    st.lists(st.integers(0, 400), max_size=12),
    st.booleans(),
    st.booleans(),
)
@example(b"", [], False, False)
@example(b"\r", [], False, False)
@example(b"\xef\xbb\xbfdata: [DONE]", [1, 2], True, False)
def test_any_bytes_end_in_one_verdict(body: bytes, at: list[int], lost: bool, reset: bool) -> None:
    record = Record(1, 0, 0, 0, T0)
    stream = Completion(record, Fresh())
    cuts = sorted({cut for cut in at if cut < len(body)})
    for number, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(body)], strict=True)):
        stream.feed(body[a:b], T0 + number)
    stream.end(T0 + 99, "the connection broke" if lost else "", reset=reset)
    assert record.error is None or record.error in ERRORS
    assert (record.error is None) <= (record.first_ns > 0)
    assert "\n" not in record.error_text
    row = json.loads(lines([record], 0, ["p"], ["m"], 0))
    assert row["error"] == record.error
    assert all(isinstance(row[k], int | None) for k in ("output_tokens", "prompt_tokens", "cached_tokens"))
    counted = (row["output_tokens"], row["prompt_tokens"], row["cached_tokens"])
    assert all(count is None or 0 <= count < 1 << 62 for count in counted)


ENDLESS = {
    "no line end": b"x" * 65536,
    "data without a line end": b"data: " + b"x" * 65530,
    "empty lines of data": b"data:\n" * 10922,
    "bare data fields, CR": b"data\r" * 13107,
    "short lines of data": b"data: x\n" * 8192,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_event_without_end_is_refused_before_it_fills_the_memory(name: str) -> None:
    record = Record(1, 0, 0, 0, T0)
    stream, parser = Completion(record, Fresh()), SseParser()
    fed = 0
    while record.error is None and fed < 10 << 20:
        stream.feed(ENDLESS[name], T0)
        fed += len(ENDLESS[name])
    assert record.error == "bad_stream"
    assert fed <= MAX_EVENT_BYTES + 2 * 65536
    with pytest.raises(SseError):
        parser.feed(ENDLESS[name] * (fed // len(ENDLESS[name])))
    assert parser.end() == []  # nothing is held on to


def test_one_line_of_ten_megabytes_is_no_stream() -> None:
    body = vllm("x" * (10 << 20)) + vllm("", "stop") + b"data: [DONE]\n\n"
    assert read(body, list(range(65536, len(body), 65536))).error == "bad_stream"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_events_do_not_depend_on_the_splitting(body: bytes, at: list[int]) -> None:
    whole, parts = SseParser(), SseParser()
    found = []
    cuts = sorted({cut for cut in at if cut < len(body)})
    for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += parts.feed(body[a:b])
    assert whole.feed(body) + whole.end() == found + parts.end()
    assert parts.idle
