"""The stages of a graph as rvtop sees them: in the topology's answer, on the map, in the waterfall."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np

from rvtop.contract.stages import Stage, stages_of
from rvtop.results.parts_text import parts_lines
from rvtop.results.ttft_parts import ttft_parts
from rvtop.stats.typical import split_ttft
from rvtop.stats.waterfall import TOLD, told_of, typical
from rvtop.ui.stage_lines import ROOM, stage_lines
from rvtop.ui.theme import DARK, Styles

STYLES = Styles(DARK)


def facts(requests: int, total_ms: float, **row: Any) -> dict[str, Any]:
    replicas = [{"max_batch": 16, "calls": 4, "items": 10}]
    embed = {"stage": "embed", "ready": 1, "wanted": 2, "in_flight": 3, "requests": requests}
    llm = {"stage": "llm", "ready": 1, "wanted": 1, "in_flight": 0, "replicas": []}
    return {"stages": [embed | {"total_ms": total_ms, "replicas": replicas} | row, llm]}


def test_what_passed_between_two_looks() -> None:
    first, passed = stages_of(facts(10, 50.0), {}, 2.0)
    assert first == (Stage("embed", 1, 2, 3, batch=2.5), Stage("llm", 1, 1, 0))
    second, passed = stages_of(facts(14, 70.0), passed, 2.0)
    assert (second[0].rps, second[0].ms) == (2.0, 5.0)
    idle, passed = stages_of(facts(14, 70.0), passed, 2.0)
    assert (idle[0].rps, idle[0].ms) == (0.0, None)
    anew, _ = stages_of(facts(1, 4.0), passed, 2.0)  # its replicas began again
    assert (anew[0].rps, anew[0].ms) == (None, None)


def test_what_makes_no_sense_is_nothing() -> None:
    for told in (
        None,
        [],
        {},
        {"stages": 7},
        {"stages": [7]},
        facts(1, 1.0, ready="x"),
        facts(1, 1.0, wanted=-1),
    ):
        assert stages_of(told, {}, 1.0) == ((), {})


def test_the_lines_of_the_map() -> None:
    chat = [Stage("embed", 1, 2, 3, 2.0, 5.0, 2.5), Stage("search", 1, 1, 0, 2.0, 0.4), Stage("llm", 2, 2, 1)]
    analysis = [Stage(name, 1, 1, 0) for name in ("preprocess", "sentiment", "topic", "merge")]
    lines = [line.text for line in stage_lines([*chat, *analysis], STYLES, 120, 20)]
    assert lines[1] == "  embed ×1/2 3 in 5.00 ms batch 2.50 ━▶ search ×1 0 in 0.400 ms ━▶ llm ×2 1 in"
    assert lines[2] == "  preprocess ×1 0 in ━▶ sentiment ×1 0 in ∥ topic ×1 0 in ━▶ merge ×1 0 in"
    assert all(line.width <= 40 for line in stage_lines(chat, STYLES, 40, 20))
    assert stage_lines(chat, STYLES, 120, ROOM - 1) == stage_lines([], STYLES, 120, 20) == []


SERVER = {"router_ms": 0.5, "queue_ms": 1.0, "retrieve_ms": 9.0, "embed_ms": 5.0, "search_ms": 1.0}
SERVER |= {"rerank_ms": 2.0, "prefill_ms": 10.0}


def test_stages_are_parts_in_place_of_the_whole_retrieval() -> None:
    told = dict(zip(TOLD, told_of(SERVER), strict=False))
    assert isnan(told["retrieve_ms"])
    assert [told[f"{stage}_ms"] for stage in ("embed", "search", "rerank")] == [5.0, 1.0, 2.0]
    whole = dict(zip(TOLD, told_of({"retrieve_ms": 9.0}), strict=False))
    assert whole["retrieve_ms"] == 9.0
    n = 40
    ttft = np.linspace(20.0, 30.0, n)
    rows = np.array([told_of(SERVER)] * n)
    late, decode = np.full(n, 0.25), np.full(n, 80.0)
    for one in typical(ttft, late, decode, rows):
        assert abs(one.parts.total - one.ttft_ms) < 1e-9
        assert (one.parts.embed, one.parts.rerank, one.parts.retrieve) == (5.0, 2.0, None)
    summary = ttft_parts(ttft, late, decode, rows, None)
    assert summary["p50"]["search_ms"] == 1.0
    assert "embed 5 + search 1 + rerank 2 + prefill 10 ms" in parts_lines(summary)[0]
    plain = ttft_parts(ttft, late, decode, np.array([told_of({"queue_ms": 1.0})] * n), None)
    assert "embed_ms" not in plain["p50"]


def test_one_request_with_stages() -> None:
    parts = split_ttft(30.0, 1.0, router=0.5, queue=1.0, prefill=10.0, embed=5.0, search=1.0, rerank=2.0)
    assert parts.network == 9.5
    assert parts.total == 30.0
    assert parts.told
