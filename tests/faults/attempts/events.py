"""Event streams in every spelling that a server may find, right or wrong."""

from __future__ import annotations

from tests.faults.attempts.said import (
    DONE,
    ROLE,
    STREAM,
    THREE,
    TWO,
    choice,
    chunked,
    data,
    token,
    usage,
)
from tests.faults.attempts.wire import Row, rows


def row(name: str, about: str, *parts: bytes, **more: object) -> Row:
    return Row(name, about, chunked(*parts), **more)  # type: ignore[arg-type]


def _lines(end: bytes) -> bytes:
    return STREAM.replace(b"\n", end)


def _mixed() -> bytes:
    """The lines of each event end in another way."""
    ends = (b"\n", b"\r\n", b"\r")
    parts = STREAM.removesuffix(b"\n\n").split(b"\n\n")
    return b"".join(part + 2 * ends[i % 3] for i, part in enumerate(parts))


def _pretty() -> bytes:
    """An event over several data lines."""
    return b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"a"},\ndata: "finish_reason":null}]}\n\n'


def _raw(text: bytes) -> bytes:
    """An event of these bytes of JSON."""
    return b"data: " + text + b"\n\n"


TOOLS = [data(choice({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})) for part in "abc"]
STOP = data(choice({}, "stop"))
SAYS_NOTHING = data({"id": "x", "object": "chat.completion.chunk"})
DEEP = b'{"x":' + b"[" * 3000 + b"]" * 3000 + b"}"

rows(
    "events",
    row("crlf", "CRLF line ends", _lines(b"\r\n"), chunks=3, tokens=3),
    row("cr", "CR line ends", _lines(b"\r"), chunks=3, tokens=3),
    row("mixed_ends", "LF, CRLF and CR in turn", _mixed(), chunks=3, tokens=3),
    row("bom", "a byte order mark first", b"\xef\xbb\xbf" + STREAM, chunks=3, tokens=3),
    row("bom_alone", "a byte order mark as a chunk of its own", b"\xef\xbb\xbf", STREAM, chunks=3),
    row(
        "blank_lines",
        "blank lines first and between",
        b"\n\n\n" + STREAM.replace(b"\n\n", b"\n\n\n\n"),
        chunks=3,
    ),
    row(
        "comments", "comments in every place", b":\n: a: b\n" + STREAM.replace(b"data", b":x\ndata"), chunks=3
    ),
    row(
        "fields",
        "id, retry, event and unknown fields",
        STREAM.replace(b"data", b"id: 1\nx\nretry: 9\ndata"),
        chunks=3,
    ),
    row("several_lines", "an event over several data lines", ROLE, _pretty(), THREE, DONE, chunks=4),
    row("no_space", "data: without a space", STREAM.replace(b"data: ", b"data:"), chunks=3, tokens=3),
    row("two_spaces", "data: with two spaces", STREAM.replace(b"data: {", b"data:  {"), chunks=3, tokens=3),
    row("nul_escaped", "\\u0000 in a text", token("\0"), THREE, DONE, chunks=4),
    row(
        "nul_raw",
        "a NUL byte in the JSON of the first token",
        _raw(b'{"choices":[{"delta":{"content":"\0"}}]}'),
        THREE,
        DONE,
        end="bad_stream",
        says="not JSON",
    ),
    row("nul_comment", "NUL bytes in a comment", b": \0\0\n", STREAM, chunks=3),
    row("no_last_newline", "no newline behind [DONE]", STREAM.removesuffix(b"\n\n"), chunks=3, tokens=3),
    row(
        "no_last_blank",
        "no blank line behind the last event",
        THREE.removesuffix(b"\n"),
        chunks=3,
        finish="stop",
    ),
    row("done_twice", "[DONE] twice", STREAM, DONE, chunks=3, tokens=3),
    row("done_space", "[DONE] with a space behind it", THREE, b"data: [DONE] \n\n", chunks=3),
    row("tokens_after_done", "tokens behind [DONE]", STREAM, TWO, chunks=3, tokens=3),
    row("garbage_after_done", "no JSON behind [DONE]", STREAM, b"data: bye\n\n", chunks=3, tokens=3),
    row("usage_first", "usage before the tokens", usage(3), THREE, DONE, chunks=3, tokens=3),
    row(
        "usage_before_last",
        "usage before the last token",
        TWO,
        usage(3),
        token("c", "stop"),
        DONE,
        chunks=3,
        tokens=3,
    ),
    row(
        "usage_twice", "usage twice, the last one right", THREE, usage(1), usage(3), DONE, chunks=3, tokens=3
    ),
    row(
        "usage_null",
        "usage: null in every chunk",
        data({**choice({"content": "a"}), "usage": None}),
        THREE,
        DONE,
        chunks=4,
    ),
    row("usage_empty", "usage: {}", THREE, data({"choices": [], "usage": {}}), DONE, chunks=3, tokens=3),
    row("usage_words", "usage in words", THREE, usage("three"), DONE, chunks=3, tokens=3),
    row("usage_negative", "negative usage", THREE, usage(-3), DONE, chunks=3, tokens=3),
    row(
        "usage_endless",
        "usage of 10^400",
        THREE,
        _raw(b'{"choices":[],"usage":{"completion_tokens":1e400}}'),
        DONE,
        tokens=3,
    ),
    row("usage_wide", "usage beyond 64 bits", THREE, usage(10**30), DONE, chunks=3, tokens=3),
    row("usage_zero", "usage of 0 for three tokens", THREE, usage(0), DONE, chunks=3),
    row(
        "usage_list", "usage is a list", THREE, data({"choices": [], "usage": [3]}), DONE, chunks=3, tokens=3
    ),
    row(
        "choices_empty",
        "chunks without choices between",
        ROLE,
        data({"choices": []}),
        TWO,
        data({"choices": []}),
        STOP,
        DONE,
        chunks=2,
    ),
    row(
        "choices_null",
        "choices: null, choices of null",
        data({"choices": None}),
        data({"choices": [None]}),
        THREE,
        DONE,
        chunks=3,
    ),
    row("choices_object", "choices is an object", data({"choices": {"0": 1}}), THREE, DONE, chunks=3),
    row(
        "index_1",
        "index 1 only",
        *(part.replace(b'"index":0', b'"index":1') for part in (ROLE, THREE)),
        DONE,
        chunks=3,
    ),
    row(
        "n_2",
        "two choices in turn",
        *(part + part.replace(b'"index":0', b'"index":1') for part in (TWO, STOP)),
        DONE,
        chunks=4,
    ),
    row("tool_calls", "tool calls only", ROLE, *TOOLS, STOP, DONE, chunks=3),
    row(
        "reasoning",
        "reasoning_content only",
        *(data(choice({"reasoning_content": c, "content": None})) for c in "ab"),
        STOP,
        DONE,
        chunks=2,
    ),
    row(
        "refusal",
        "a refusal only",
        ROLE,
        *(data(choice({"refusal": c})) for c in "abc"),
        STOP,
        DONE,
        chunks=3,
    ),
    row(
        "function_call",
        "the older function_call only",
        ROLE,
        *(data(choice({"function_call": {"arguments": c}})) for c in "ab"),
        STOP,
        DONE,
        chunks=2,
    ),
    row("content_null", "null content between", ROLE, data(choice({"content": None})), THREE, DONE, chunks=3),
    row(
        "content_parts",
        "content in parts",
        data(choice({"content": [{"type": "text", "text": "a"}]})),
        STOP,
        DONE,
        chunks=1,
    ),
    row("delta_absent", "no delta", data({"choices": [{"index": 0}]}), THREE, DONE, chunks=3),
    row("delta_null", "delta: null", data(choice(None)), THREE, DONE, chunks=3),
    row("delta_text", "delta is a string", data(choice("a")), THREE, DONE, chunks=3),
    row("no_done", "a finish reason, no [DONE]", ROLE, THREE, chunks=3, finish="stop"),
    row(
        "role_each",
        "the role in every chunk",
        *(data(choice({"role": "assistant", "content": c})) for c in "abc"),
        STOP,
        DONE,
        chunks=3,
    ),
    row("role_only", "role and finish, no token", ROLE, STOP, DONE, end="empty"),
    row(
        "finish_empty",
        'finish_reason: "" in chunks that go on, cut off',
        *(data(choice({"content": c}, "")) for c in "ab"),
        end="truncated",
    ),
    row(
        "finish_empty_done",
        'finish_reason: "" in every chunk',
        *(data(choice({"content": c}, "")) for c in "abc"),
        DONE,
        chunks=3,
    ),
    row(
        "finish_missing",
        "no finish_reason in any chunk",
        *(data({"choices": [{"delta": {"content": c}}]}) for c in "abc"),
        DONE,
        chunks=3,
    ),
    row(
        "finish_object",
        "finish_reason is an object",
        TWO,
        data({"choices": [{"delta": {}, "finish_reason": {"type": "stop"}}]}),
        DONE,
        chunks=2,
    ),
    row(
        "finish_at_first",
        "one token with its finish",
        token("a", "length"),
        usage(1),
        DONE,
        chunks=1,
        tokens=1,
        finish="length",
    ),
    row(
        "finish_twice",
        "two finish reasons",
        TWO,
        STOP,
        data(choice({}, "length")),
        DONE,
        chunks=2,
        finish="length",
    ),
    row("token_after_finish", "a token behind the finish", THREE, token("d"), DONE, chunks=4),
    row(
        "data_empty",
        "events with empty data, as a sign of life",
        b"data:\n\n",
        THREE,
        b"data: \n\ndata\n\n",
        DONE,
        chunks=3,
    ),
    row("ping_events", "event: ping with {}", b"event: ping\ndata: {}\n\n", THREE, DONE, chunks=3),
    row("says_nothing", "chunks that say nothing", SAYS_NOTHING, THREE, SAYS_NOTHING, DONE, chunks=3),
    row(
        "error_text",
        "error is a text",
        TWO,
        data({"error": "out of memory"}),
        DONE,
        end="stream_error",
        says="out of memory",
    ),
    row(
        "error_object",
        "object: error, as older vLLM",
        TWO,
        data({"object": "error", "message": "CUDA", "code": 500}),
        DONE,
        end="stream_error",
        says="CUDA",
    ),
    row(
        "error_code",
        "an error without a message",
        data({"error": {"code": 500}}),
        end="stream_error",
        says="500",
    ),
    row(
        "error_null",
        "error: null in good chunks",
        data({**choice({"content": "a"}), "error": None}),
        THREE,
        DONE,
        chunks=4,
    ),
    row(
        "error_long",
        "an error of 100 000 letters over lines",
        data({"error": {"message": "x\n" * 50_000}}),
        end="stream_error",
        cuts=(0, 1000),
    ),
    row(
        "surrogate",
        "half a surrogate pair escaped",
        _raw(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}'),
        THREE,
        DONE,
        chunks=4,
    ),
    row(
        "nan",
        "NaN as a logprob",
        _raw(b'{"choices":[{"delta":{"content":"a"},"logprobs":NaN}]}'),
        THREE,
        DONE,
        chunks=4,
    ),
    row("deep", "JSON 3000 deep", TWO, _raw(DEEP), DONE, end="bad_stream", cuts=(0, 1000)),
    row(
        "same_key_twice",
        "a key twice",
        _raw(b'{"choices":[],"choices":[{"delta":{"content":"a"}}]}'),
        THREE,
        DONE,
        chunks=4,
    ),
    row("number", "an event is a number", TWO, b"data: 5\n\n", end="bad_stream", says="not a JSON object"),
    row("long_event", "an event of 900 KB", token("x" * 900_000), THREE, DONE, chunks=4, cuts=(0, 50_000)),
    row(
        "many_at_once",
        "5000 tokens in one write",
        token("a") * 4999,
        token("b", "length"),
        DONE,
        chunks=5000,
        cuts=(0, 1000),
    ),
    row(
        "sign_of_life_1mb",
        "a comment of 900 KB",
        b":" + b"x" * 900_000 + b"\n",
        STREAM,
        chunks=3,
        cuts=(0, 50_000),
    ),
    row(
        "split_characters",
        "two bytes a chunk: characters and CRLF cut",
        *(STREAM[i : i + 2] for i in range(0, len(STREAM), 2)),
        chunks=3,
        tokens=3,
        cuts=(0, 5),
    ),
    row(
        "quotes",
        "texts of quotes and backslashes",
        *(token(t) for t in ('"', "\\", '\\"', '","finish_reason":"stop"', "data: x\n\n")),
        STOP,
        DONE,
        chunks=5,
    ),
    row(
        "emoji",
        "emoji, ZWJ and combining marks",
        *(token(t) for t in ("👩‍👩‍👧", "é", "\u202e", "\ufeff")),
        STOP,
        DONE,
        chunks=4,
    ),
    row(
        "bad_utf8_later",
        "half a character in the third token",
        TWO,
        token("가").replace("가".encode(), b"\xea\xb0"),
        STOP,
        DONE,
        end="ok|bad_stream",
    ),
    row(
        "nul_later",
        "a NUL byte in the third token",
        TWO,
        token("x").replace(b'"x"', b'"\0"'),
        STOP,
        DONE,
        end="ok|bad_stream",
    ),
)
