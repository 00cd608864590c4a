"""OpenTelemetry's spans of generative AI (``gen_ai.*``) as sessions: OTLP/JSON, one document (``.json``) or
one a line (``.jsonl``, as collectors write it); a line may be a span alone.

Spans of a model's calls count (``gen_ai.operation.name``: chat, text_completion, generate_content); what
lies between them, tools among it, is time. A session is a ``gen_ai.conversation.id``, or else a trace.
A call's text is ``gen_ai.input.messages`` if it was recorded, else made up by ``gen_ai.usage.input_tokens``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rvtop.workload.rows import WorkloadError
from rvtop.workload.sessions import Call, Session, session
from rvtop.workload.sharegpt import tokens_of

_CALLS = ("chat", "text_completion", "generate_content")
#: Names of today, then those of older conventions.
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_ROLES = {"system": "system", "developer": "system", "assistant": "assistant", "model": "assistant"}
_MOST_TOKENS = 10_000_000
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class _Span:
    where: str
    trace: str
    parent: str
    start_s: float
    end_s: float
    attributes: dict[str, Any]


def read(path: Path) -> list[Session]:
    """Sessions by time. Raises WorkloadError: file, line, what is wrong."""
    spans = {}
    for number, document in _documents(path):
        for span_id, span in _spans(document, f"{path}:{number}"):
            spans[span.trace, span_id] = span
    found: dict[str, list[Call]] = {}
    for span in spans.values():
        if span.attributes.get("gen_ai.operation.name") in _CALLS:
            call = _call(span, spans)
            if call is not None:
                name = str(span.attributes.get("gen_ai.conversation.id") or span.trace)
                found.setdefault(name, []).append(call)
    if not found:
        raise WorkloadError(
            f"{path}: holds no span of a model's call: gen_ai.operation.name must be one of "
            f"{', '.join(_CALLS)}, with {_INPUT[0]} and {_OUTPUT[0]}"
        )
    try:
        made = [session(name, calls) for name, calls in found.items()]
    except ValueError as problem:
        raise WorkloadError(f"{path}: {problem}") from None
    return sorted(made, key=lambda one: one.start_s)


def _documents(path: Path) -> Iterator[tuple[int, Any]]:
    data = path.read_bytes().removeprefix(_BOM)
    lines = enumerate(data.splitlines(), 1) if path.suffix == ".jsonl" else [(1, data)]
    for number, line in lines:
        if line.strip():
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error


def _spans(document: Any, where: str) -> Iterator[tuple[str, _Span]]:
    """The spans of a document, a ``resourceSpans`` or ``scopeSpans`` of one, or a span."""
    if isinstance(document, list):
        for one in document:
            yield from _spans(one, where)
        return
    if not isinstance(document, dict):
        raise WorkloadError(f"{where}: must be OTLP/JSON, an object with resourceSpans")
    inner = [document[key] for key in ("resourceSpans", "scopeSpans", "spans") if key in document]
    if inner:
        yield from _spans(inner[0], where)
        return
    span_id = document.get("spanId")
    if not isinstance(span_id, str) or not isinstance(document.get("traceId"), str):
        raise WorkloadError(f"{where}: a span needs traceId and spanId (OTLP/JSON)")
    here = f"{where}: span {span_id}"
    times = (_nano(document, key, here) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    start_s, end_s = times
    parent = str(document.get("parentSpanId") or "")
    attributes = _attributes(document.get("attributes") or [], here)
    yield span_id, _Span(here, document["traceId"], parent, start_s, max(start_s, end_s), attributes)


def _nano(span: Mapping[str, Any], key: str, here: str) -> float:
    value = span.get(key)
    try:
        return int(value) / 1e9  # type: ignore[arg-type]  # a text or a number
    except (TypeError, ValueError, OverflowError):
        raise WorkloadError(f"{here}: {key} must be a time in nanoseconds, got {value!r}") from None


def _attributes(listed: Any, here: str) -> dict[str, Any]:
    """``[{key, value: {stringValue | intValue | …}}]``, or an object, as some exporters write it."""
    if isinstance(listed, dict):
        return listed
    try:
        return {one["key"]: _value(one["value"]) for one in listed}
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError):
        raise WorkloadError(f"{here}: attributes must be [{{key, value}}, …]") from None


def _value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(one) for one in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return {one["key"]: _value(one["value"]) for one in value["kvlistValue"].get("values", [])}
    return next((value[key] for key in ("stringValue", "doubleValue", "boolValue") if key in value), None)


def _call(span: _Span, spans: Mapping[tuple[str, str], _Span]) -> Call | None:
    """None of a call that failed or whose tokens nobody counted."""
    messages = _messages(span)
    prompt, output = (_tokens(span, names) for names in (_INPUT, _OUTPUT))
    if prompt is None and messages:
        prompt = sum(tokens_of(one["content"]) for one in messages)
    if not prompt or not output:
        return None
    scope: list[str] = []
    parent = span.parent
    while parent and parent not in scope:
        scope.append(parent)
        above = spans.get((span.trace, parent))
        parent = above.parent if above is not None else ""
    # One trace of several in a conversation is a part of it too.
    parts = (span.trace, *reversed(scope))
    return Call(span.start_s, span.end_s, prompt, output, messages=messages, scope=parts)


def _tokens(span: _Span, names: tuple[str, ...]) -> int | None:
    value = next((span.attributes[name] for name in names if name in span.attributes), None)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
        raise WorkloadError(
            f"{span.where}: {names[0]} must be a whole number from 0 to {_MOST_TOKENS:,}, got {value!r}"
        )
    return value


def _messages(span: _Span) -> tuple[dict[str, str], ...]:
    """What was recorded of the prompt, as text: ``{role, parts: [{type, content}]}``; calls of tools and
    their results are text too, those of the user."""
    found: list[dict[str, str]] = []
    for key, role in (("gen_ai.system_instructions", "system"), ("gen_ai.input.messages", "")):
        said = span.attributes.get(key)
        if isinstance(said, str):
            try:
                said = orjson.loads(said)
            except orjson.JSONDecodeError as error:
                raise WorkloadError(f"{span.where}: {key} is not JSON: {error}") from error
        if said is None:
            continue
        if not isinstance(said, list):
            raise WorkloadError(f"{span.where}: {key} must be a list of messages")
        listed = [{"role": role, "parts": said}] if role else said
        found += filter(None, (_message(one) for one in listed))
    return tuple(found)


def _message(one: Any) -> dict[str, str] | None:
    if not isinstance(one, dict):
        return None
    parts = one.get("parts", one.get("content"))
    parts = parts if isinstance(parts, list) else [{"content": parts}]
    text = "\n".join(filter(None, (_part(part) for part in parts)))
    return {"role": _ROLES.get(str(one.get("role")), "user"), "content": text} if text else None


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    for key in ("content", "text", "result", "response"):
        if isinstance(part.get(key), str):
            return str(part[key])
    told = {key: value for key, value in part.items() if value is not None and key != "type"}
    return orjson.dumps(told).decode() if told else ""
