"""``endpoint``, ``stream`` and ``batch`` of a scenario: what goes together, and the key of what does not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rvtop.cli.load_options import check_figures
from rvtop.cli.transport import TargetOptions, speaking
from rvtop.errors import UserError
from rvtop.load.plan.api import Api
from rvtop.scenario.explain import explain
from rvtop.scenario.load import ScenarioError, scenario_from
from rvtop.scenario.schema import Scenario
from rvtop.session.request import watch_scenario, with_slo
from rvtop.session.search import SearchOptions, parse_slo

SYNTHETIC = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 8}


def scenario(**more: Any) -> Scenario:
    data = {"name": "t", "workload": SYNTHETIC, "phases": [{"name": "hold", "rate": 1, "duration": "1s"}]}
    return scenario_from({**data, **more}, "t")


def test_what_is_not_said_is_as_it_always_was() -> None:
    assert scenario().api == Api("", True, 0)
    assert scenario(endpoint="rerank", batch=3).api == Api("rerank", True, 3)
    made = scenario(endpoint="responses", stream=False)
    assert scenario_from(yaml.safe_load(made.to_yaml()), "t") == made


@pytest.mark.parametrize(
    ("more", "key", "says"),
    [
        ({"endpoint": "embed"}, "endpoint", "embeddings"),
        ({"endpoint": ["chat"]}, "endpoint", ""),
        ({"batch": 2}, "batch", "is for endpoint: embeddings"),
        ({"endpoint": "chat", "batch": 2}, "batch", "is for endpoint: embeddings"),
        ({"endpoint": "rerank", "batch": 0}, "batch", "1"),
        ({"endpoint": "rerank", "stream": True}, "stream", "rerank answers in one piece"),
        ({"endpoint": "embeddings", "slo": {"ttft_ms": 9}}, "slo.ttft_ms", "use e2e_ms"),
        ({"stream": False, "slo": {"tpot_ms": 9}}, "slo.tpot_ms", "stream: false has no first token"),
        ({"endpoint": "embeddings", "thresholds": {"itl_p99_ms": 9}}, "thresholds.itl_p99_ms", "e2e_p99_ms"),
        ({"stream": False, "stop_when_saturated": True}, "stop_when_saturated", "has no first token"),
        (
            {"endpoint": "embeddings", "workload": {"kind": "tasks", "file": "t.jsonl"}},
            "workload.kind",
            "tasks are conversations",
        ),
        (
            {"endpoint": "completions", "workload": {**SYNTHETIC, "turns": 3}},
            "workload.turns",
            "has no conversations",
        ),
        (
            {"endpoint": "messages", "workload": {"kind": "rag", "where": "server"}},
            "workload.where",
            "server goes with endpoint: chat",
        ),
    ],
)
def test_what_contradicts_itself_is_named(more: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(**more)
    assert caught.value.key == key
    assert says in str(caught.value)


def test_latency_may_be_limited_where_there_is_no_first_token() -> None:
    made = scenario(endpoint="embeddings", slo={"e2e_ms": 50}, thresholds={"e2e_p99_ms": 90})
    assert made.slo is not None
    assert (
        with_slo(scenario(endpoint="embeddings"), {"ttft_ms": 200.0}).slo is None
    )  # a setting of the user's


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"endpoint": "embeddings", "batch": 4}, "/v1/embeddings, 4 texts a request"),
        ({"endpoint": "rerank"}, "/v1/rerank, 8 documents a request"),
        ({"endpoint": "messages"}, "/v1/messages"),
        ({"endpoint": "responses", "stream": False}, "/v1/responses, answers in one piece"),
    ],
)
def test_it_is_explained(more: dict[str, Any], says: str) -> None:
    words = explain(scenario(**more))
    assert f"  by       {says}" in words
    assert ("no output tokens" in words) == (more["endpoint"] in ("embeddings", "rerank"))
    assert "  by  " not in explain(scenario())


def test_the_option_wins_and_is_checked_like_the_file() -> None:
    assert speaking(scenario(), TargetOptions()) == scenario()
    assert speaking(scenario(endpoint="chat"), TargetOptions(endpoint="messages")).endpoint == "messages"
    assert speaking(watch_scenario(), TargetOptions(endpoint="embeddings")).api == Api("embeddings")
    with pytest.raises(UserError, match="--endpoint embed: must be one of chat, completions"):
        speaking(scenario(), TargetOptions(endpoint="embed"))
    with pytest.raises(ScenarioError, match=r"--endpoint rerank: slo.ttft_ms"):
        speaking(scenario(slo={"ttft_ms": 9}), TargetOptions(endpoint="rerank"))


def test_options_ask_for_no_figure_that_answers_in_one_piece_do_not_have() -> None:
    search = SearchOptions(parse_slo("e2e_p99=90,ttft_p99=9"))
    whole = scenario(endpoint="embeddings")
    check_figures(scenario(), search, 2.0)
    check_figures(whole, SearchOptions(parse_slo("e2e_p99=90,error_rate=0.01")), None)
    with pytest.raises(UserError, match="--slo ttft_p99: answers in one piece have no such figure"):
        check_figures(whole, search, None)
    with pytest.raises(UserError, match="--probe-rate looks at TTFTs"):
        check_figures(whole, None, 2.0)
    check_figures(scenario(), None, None, stop_when_saturated=True)
    with pytest.raises(UserError, match="--stop-when-saturated looks at TTFTs"):
        check_figures(whole, None, None, stop_when_saturated=True)
