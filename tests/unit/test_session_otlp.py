"""A span a request: its ids, what it tells, and that a collector that is down costs a warning and no more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rvtop.cli.options import SessionOptions
from rvtop.contract.command import SetRate, Stop
from rvtop.errors import UserError
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.wire import traceparent
from rvtop.session import otlp
from rvtop.session.otlp import Collector, SpanSender, check_headers, endpoint
from rvtop.session.request import SessionRequest
from rvtop.session.session import Session
from rvtop.session.spans import SpanMaker
from tests.mock.fast import any_mock
from tests.unit.collector import collector
from tests.unit.sender_world import S, World

LIMIT_S = 60
ROW = {
    "id": 7,
    "phase": "hold",
    "model": "m",
    "worker": 1,
    "engine": "e0",
    "prompt": 3,
    "intended_ns": 1_000,
    "sent_ns": 2_000,
    "headers_ns": 3_000,
    "first_token_ns": 4_000,
    "last_token_ns": 9_000,
    "prompt_tokens": 11,
    "output_tokens": 5,
    "cached_tokens": None,
    "finish": "stop",
    "error": None,
    "error_text": None,
}


def maker(run: int = 5) -> SpanMaker:
    scope = InstrumentationScope("rvtop")
    return SpanMaker(run, 1_000_000, "/v1/chat/completions", Resource({}), scope)


def line(**more: Any) -> bytes:
    return json.dumps(ROW | more).encode() + b"\n"


def test_ids_are_of_run_and_request_and_none_is_zero_or_comes_twice() -> None:
    run = 0x0123456789ABCDEF
    found = [traceparent.ids(run, seq) for seq in range(2000)]
    assert len({trace for trace, _ in found}) == len({span for _, span in found}) == 2000
    assert {trace >> 64 for trace, _ in found} == {run}
    assert all(0 < span < 1 << 64 for _, span in found)
    assert traceparent.ids(run + 1, 0) != found[0]
    # A collector that keeps a tenth looks at the lower half: it is spread, so it finds about a tenth.
    kept = sum((trace & ((1 << 64) - 1)) < (1 << 64) // 10 for trace, _ in found)
    assert 150 <= kept <= 250
    trace, span = found[9]
    assert traceparent.header(run, 9) == f"\r\ntraceparent: 00-{trace:032x}-{span:016x}-01".encode()


@pytest.mark.parametrize("can_schedule", [True, False])
@pytest.mark.parametrize("traces", ["", "00000000000000ff"])
def test_each_request_carries_its_own_trace_and_none_unless_asked(
    tmp_path: Path, traces: str, can_schedule: bool
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hi", "max_tokens": 4}\n')
    world = World(prompts, PhasePlan("p", 10.0, 10.0, 1.0), can_schedule=can_schedule, traces=traces)
    world.sender.command(PlanEvent(S, "phase", 0))
    world.run(3 * S)
    assert len(world.sent) == 10
    for record in world.sent:
        request = world.requests[record]
        head = request.partition(b"\r\n\r\n")[0]
        assert head.count(b"traceparent") == bool(traces)
        if traces:
            assert traceparent.header(255, record.seq) in head


def test_a_span_tells_the_request_from_its_intended_time_on() -> None:
    span = maker().span(ROW)
    trace, own = traceparent.ids(5, 7)
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id, span.parent) == (trace, own, None)
    assert (span.name, span.start_time, span.end_time) == ("chat m", 1_001_000, 1_009_000)
    assert [(event.name, event.timestamp) for event in span.events] == [
        ("sent", 1_002_000),
        ("headers", 1_003_000),
        ("first token", 1_004_000),
        ("last token", 1_009_000),
    ]
    assert span.status.is_unset
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ("stop",),
        "rvtop.request": 7,
        "rvtop.phase": "hold",
        "rvtop.prompt": 3,
        "rvtop.worker": 1,
        "rvtop.engine": "e0",
    }


def test_a_request_that_failed_is_an_error_and_one_that_was_never_sent_has_no_length() -> None:
    failed = {"first_token_ns": None, "last_token_ns": None, "error": "http_500", "error_text": "no memory"}
    span = maker().span(ROW | failed)
    assert (span.status.description, span.end_time) == ("no memory", 1_003_000)
    assert (span.attributes or {})["error.type"] == "http_500"
    dropped = maker().span(ROW | failed | {"sent_ns": None, "headers_ns": None, "error": "dropped"})
    assert (dropped.start_time, dropped.end_time, list(dropped.events)) == (1_001_000, 1_001_000, [])


def test_spans_go_in_batches_and_the_end_waits_for_what_is_left() -> None:
    batches: list[int] = []

    def send(spans: Sequence[Any]) -> bool:
        batches.append(len(spans))
        return True

    sender = SpanSender("http://c", maker(), send, pytest.fail)
    sender.add(line() * 1300)
    assert sender.close() == "1300 spans sent to http://c"
    assert sum(batches) == 1300
    assert max(batches) == 512


def test_a_collector_that_is_down_is_one_warning_and_holds_nothing_up() -> None:
    said: list[str] = []
    blocked, tried = threading.Event(), threading.Event()

    def send(spans: Sequence[Any]) -> bool:
        tried.set()
        assert blocked.wait(LIMIT_S)
        return False

    sender = SpanSender("http://u:secret@c", maker(), send, said.append)
    sender.add(line())
    assert tried.wait(LIMIT_S)
    for _ in range(3):
        sender.add(line() * 600)  # comes back at once, though the thread waits for the collector
    blocked.set()
    assert sender.close() == "0 of 1801 spans sent to http://c"
    assert said == ["http://c takes no spans: is an OTLP/HTTP collector there? The run goes on"]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_MOST_WAITING", 2 * len(line()))
    sender = SpanSender("http://c", maker(), lambda spans: True, pytest.fail)
    sender.add(line() * 3)
    sender.add(line() * 2)
    assert sender.close() == "2 of 5 spans sent to http://c"


def test_where_spans_go() -> None:
    assert endpoint("http://127.0.0.1:4318") == "http://127.0.0.1:4318/v1/traces"
    assert endpoint("http://[::1]:4318/") == "http://[::1]:4318/v1/traces"
    assert endpoint("https://c/otlp/v1/traces") == "https://c/otlp/v1/traces"


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:4318", "grpc://c:4317", "http://", "http://c:x", "http://c/?a=b"]
)
def test_what_is_no_collector(url: str) -> None:
    with pytest.raises(UserError, match=r"--otlp .*: must look like http://127.0.0.1:4318"):
        SessionOptions(otlp=url).check()


def test_a_password_is_not_shown_and_a_trace_of_the_users_own_is_refused() -> None:
    with pytest.raises(UserError, match="OTEL_EXPORTER_OTLP_HEADERS") as error:
        SessionOptions(otlp="http://me:secret@c:4318").check()
    assert "secret" not in str(error.value)
    check_headers({"X-Mine": "1"})
    with pytest.raises(UserError, match="a header traceparent is given too"):
        check_headers({"TraceParent": "00-1-1-01"})


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", ""])
def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def found(name: str) -> object:
        if not missing:
            raise ModuleNotFoundError(name)
        return None if name == missing else object()

    monkeypatch.setattr(otlp, "find_spec", found)
    with pytest.raises(
        UserError, match=r"--otlp: OpenTelemetry is not installed; pip install 'rvtop\[otlp\]'"
    ):
        SessionOptions(otlp="http://c:4318").check()


def test_a_collector_that_refuses_is_told_of_too() -> None:
    said: list[str] = []
    with collector(400) as at:
        sender = Collector(at.url).sender(0, "/v1/completions", {}, said.append)
        sender.add(line())
        assert sender.close() == f"0 of 1 spans sent to {at.url}"
    assert len(said) == 1


async def test_a_run_leaves_a_span_of_each_request_at_the_collector(tmp_path: Path) -> None:
    with collector() as at, any_mock() as mock:
        session = Session(SessionRequest(None, tmp_path / "run", url=mock.url, live=True, otlp=at.url))
        running = asyncio.create_task(session.run())
        async with asyncio.timeout(LIMIT_S):
            while session.snapshot().state != "watching":
                await asyncio.sleep(0.02)
            session.command(SetRate(20.0))
            while session.snapshot().load.ok < 5:
                await asyncio.sleep(0.02)
            session.command(Stop())
            outcome = await running
    assert outcome.exit_code in (0, 130), outcome
    rows = [json.loads(one) for one in (tmp_path / "run" / "requests.jsonl").read_text().splitlines()]
    spans: list[Span] = at.spans
    assert session._outlets.collector is not None
    run = session._outlets.collector.run
    assert {(int.from_bytes(one.trace_id, "big"), int.from_bytes(one.span_id, "big")) for one in spans} == {
        traceparent.ids(run, row["id"]) for row in rows
    }
    assert len(spans) == len(rows) >= 5
    t0_ns = json.loads((tmp_path / "run" / "environment.json").read_text())["t0_unix_ns"]
    assert {one.start_time_unix_nano - t0_ns for one in spans} == {row["intended_ns"] for row in rows}
    spec = session._load.spec
    assert spec is not None
    assert int(spec.traces, 16) == run  # what the workers put into the header
    about = {one.key: one.value.string_value for one in at.got[0].resource.attributes}
    assert (about["service.name"], about["rvtop.run"]) == ("rvtop", "run")
    assert f"{len(rows)} spans sent to {at.url}" in [event.text for event in session.snapshot().events]
