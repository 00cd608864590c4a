"""A finished request's line in ``requests.jsonl`` as an OpenTelemetry span with its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rvtop.load.wire import traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

#: Events of a span, by the fields of a line, in the order in which they happen.
EVENTS = {
    "sent_ns": "sent",
    "headers_ns": "headers",
    "first_token_ns": "first token",
    "last_token_ns": "last token",
}
#: Attributes of a span, by the fields of a line: names of the conventions for generative AI where there are
#: such, else ours.
_ATTRIBUTES = {
    "model": "gen_ai.request.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "error": "error.type",
    "id": "rvtop.request",
    "phase": "rvtop.phase",
    "prompt": "rvtop.prompt",
    "turn": "rvtop.turn",
    "worker": "rvtop.worker",
    "engine": "rvtop.engine",
}
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",  # the conventions have no name for it
}


class SpanMaker:
    """Makes the spans of one run. ``run``: its number in their ids; ``t0_unix_ns``: when it began; ``path``:
    the HTTP path that requests go to."""

    def __init__(
        self, run: int, t0_unix_ns: int, path: str, resource: Resource, scope: InstrumentationScope
    ) -> None:
        self._run, self._t0_unix_ns, self._operation = run, t0_unix_ns, _OPERATIONS.get(path, "chat")
        self._resource, self._scope = resource, scope

    def span(self, row: Mapping[str, Any]) -> ReadableSpan:
        """The span of one line: from the intended time to the last that is known of the request."""
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        trace, own = traceparent.ids(self._run, row["id"])
        at = {key: self._t0_unix_ns + row[key] for key in EVENTS if row[key] is not None}
        begin = self._t0_unix_ns + row["intended_ns"]
        attributes: dict[str, Any] = {"gen_ai.operation.name": self._operation}
        attributes |= {name: row[key] for key, name in _ATTRIBUTES.items() if row.get(key) is not None}
        if row["finish"] is not None:
            attributes["gen_ai.response.finish_reasons"] = (row["finish"],)
        status = Status(StatusCode.ERROR, row["error_text"] or row["error"]) if row["error"] else Status()
        return ReadableSpan(
            name=f"{self._operation} {row['model']}",
            context=SpanContext(trace, own, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)),
            resource=self._resource,
            attributes=attributes,
            events=[Event(EVENTS[key], timestamp=time) for key, time in at.items()],
            kind=SpanKind.CLIENT,
            status=status,
            start_time=begin,
            end_time=max(begin, *at.values()) if at else begin,
            instrumentation_scope=self._scope,
        )
