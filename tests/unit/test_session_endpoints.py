"""Sessions with each endpoint against a mock whose log is the truth, and the refusal where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rvtop.load.plan.api import Api
from rvtop.plain import result_lines
from rvtop.results.compare import compare
from rvtop.results.stored import side_of
from rvtop.target.probe import TargetError, TargetInfo, base_url, probe
from rvtop.target.served import check_served
from rvtop.ui.leading import leading
from rvtop.ui.prompts_file import api_of
from tests.faults.sessions import Watched, request
from tests.mock.endpoints import CACHED_SHARE
from tests.mock.process import EndpointsMock, PythonMock

TOKENS = 5
WORKLOAD = {"kind": "synthetic", "prompt_tokens": 12, "output_tokens": TOKENS, "count": 20}


@pytest.fixture(scope="module")
def mock() -> Iterator[EndpointsMock]:
    with EndpointsMock(ttft_ms=4, step_ms=1, tokens=TOKENS) as running:
        yield running


@dataclass(frozen=True)
class Ran:
    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    watched: Watched


async def run(url: str, out: Path, **more: Any) -> Ran:
    phases = more.pop("phases", [{"name": "all", "rounds": {"sizes": [4], "repeat": 2}}])
    asked = {"workload": WORKLOAD, "slo": {"e2e_ms": 60_000}, **more}
    watched = Watched(request(url, out, *phases, **asked))
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    return Ran(outcome.summary, watched.rows(), watched)


@pytest.mark.parametrize("name", ["chat", "completions", "responses", "messages"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
async def test_what_a_generating_endpoint_answers_is_counted_as_the_server_did(
    mock: EndpointsMock, tmp_path: Path, name: str, stream: bool
) -> None:
    ran = await run(mock.url, tmp_path / "run", endpoint=name, **({} if stream else {"stream": False}))
    summary = ran.summary
    assert [row["error"] for row in ran.rows] == [None] * 8
    assert {row["output_tokens"] for row in ran.rows} == {TOKENS}
    assert mock.log().tokens[-8:].tolist() == [TOKENS] * 8
    assert {row["token_source"] for row in ran.rows} == {"usage"}
    assert {row["finish"] for row in ran.rows} <= {"length", "max_tokens", "max_output_tokens"}
    if name in ("responses", "messages"):
        assert all(row["cached_tokens"] == row["prompt_tokens"] // CACHED_SHARE for row in ran.rows)
    assert summary["tokens"]["output"] == 8 * TOKENS
    assert summary["kpm"]["tps"] > 0
    assert summary["e2e_ms"]["count"] == 8
    assert (summary["ttft_ms"]["count"], summary["itl_ms"]["count"]) == ((8, 32) if stream else (0, 0))
    assert summary["goodput_rps"] > 0
    for row in ran.rows:
        assert (row["first_token_ns"] is None) == (not stream)
        assert row["last_token_ns"] - row["sent_ns"] >= 8e6  # never before the server wrote


@pytest.mark.parametrize(("name", "batch"), [("embeddings", None), ("embeddings", 3), ("rerank", None)])
async def test_an_endpoint_without_output_has_a_latency_and_input_tokens_alone(
    mock: EndpointsMock, tmp_path: Path, name: str, batch: int | None
) -> None:
    ran = await run(mock.url, tmp_path / "run", endpoint=name, batch=batch)
    summary = ran.summary
    assert [(row["error"], row["output_tokens"], row["first_token_ns"]) for row in ran.rows] == [
        (None, None, None)
    ] * 8
    assert {row["token_source"] for row in ran.rows} == {"usage"}
    assert summary["tokens"] == {
        "input": sum(row["prompt_tokens"] for row in ran.rows),
        "output": None,
        "cached": None,
        "source": "usage",
    }
    assert (summary["ttft_ms"]["p50"], summary["itl_ms"]["p50"], summary["tpot_ms"]["p50"]) == (None,) * 3
    assert (summary["kpm"]["tps"], summary["kpm"]["completed_pct"]) == (None, 100.0)
    assert summary["e2e_ms"]["count"] == 8
    assert summary["goodput_rps"] > 0
    said = "\n".join(result_lines(summary, "out"))
    assert "TTFT -- ITL -- (answers in one piece)   E2E p50 " in said
    assert " in, -- out" in said
    assert "no usage" not in said


async def test_the_screen_shows_the_latency_where_the_ttft_would_be(
    mock: EndpointsMock, tmp_path: Path
) -> None:
    ran = await run(mock.url, tmp_path / "run", endpoint="embeddings")
    last = ran.watched.session.snapshot()
    shown = leading(last)
    assert (shown.name, shown.phase.count, shown.slo_ms) == ("E2E", 4, 60_000)  # of the last round
    assert (last.tokens.per_s, last.latency.ttft.p50) == (None, None)
    assert len(last.requests.slowest) == 8
    assert all(row.ttft_ms is None and row.e2e_ms for row in last.requests.slowest)
    assert api_of(last.out_dir) == Api("embeddings")


async def test_runs_of_two_endpoints_did_not_do_the_same_work(mock: EndpointsMock, tmp_path: Path) -> None:
    sides = []
    for name in ("embeddings", "rerank", "rerank"):
        folder = tmp_path / f"{len(sides)}"
        ran = await run(mock.url, folder, endpoint=name)
        sides.append(side_of(folder, ran.summary))
    assert any("endpoint" in why for why in compare(sides[0], sides[1]).refused)
    assert not compare(sides[1], sides[2]).refused


async def test_conversations_are_held_by_messages_too(mock: EndpointsMock, tmp_path: Path) -> None:
    workload = {**WORKLOAD, "turns": 3, "count": 2}
    for number, more in enumerate(({"endpoint": "messages"}, {"endpoint": "responses", "stream": False})):
        phases = [{"name": "all", "rate": 10, "duration": "1s", "arrivals": "constant"}]
        ran = await run(mock.url, tmp_path / str(number), workload=workload, phases=phases, **more)
        assert {row["error"] for row in ran.rows} == {None}
        turns = {(row["prompt"], row["turn"]): row["prompt_tokens"] for row in ran.rows}
        assert turns[0, 0] < turns[0, 1] < turns[0, 2]  # each holds the answers before it


async def test_a_target_without_the_endpoint_is_refused_before_the_load() -> None:
    with PythonMock() as plain:
        info = await probe(plain.url)
        with pytest.raises(TargetError) as caught:
            await check_served(info, Api("embeddings"), ("mock",))
        await check_served(info, Api(), ("mock",))
        await check_served(info, Api("chat"), ("mock",))
        assert len(plain.log()) == 1  # what asks chat for nothing in particular is answered here
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{info.url} does not serve endpoint embeddings for model mock (POST /v1/embeddings gave HTTP 404: "
        "Not Found); choose another --endpoint, --model or target"
    )


def test_a_url_may_name_any_endpoint() -> None:
    for page in ("/v1/embeddings", "/v1/rerank", "/v1/responses", "/v1/messages"):
        assert base_url(f"http://h:1/p{page}") == "http://h:1/p"


async def test_by_grpc_there_are_chat_and_completions_alone() -> None:
    info = TargetInfo("grpc://127.0.0.1:9", ("mock",), None, None)
    await check_served(info, Api("chat"), ("mock",))
    for api in (Api(stream=False), Api("chat", stream=False)):
        with pytest.raises(TargetError, match="gRPC streams; stream: false is for an http URL"):
            await check_served(info, api, ("mock",))
    with pytest.raises(TargetError, match="endpoint embeddings is not there by gRPC; give its http URL"):
        await check_served(info, Api("embeddings"), ("mock",))
