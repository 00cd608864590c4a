"""Live pairs of a whole session: two mocks, real requests, the files and the summary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.command import Retarget
from rvtop.contract.handle import Second
from rvtop.contract.pairs import SAME, PairOptions
from rvtop.errors import UserError
from rvtop.results.stored import read_summary, side_of
from rvtop.results.summary import summarise
from rvtop.scenario.load import scenario_from
from rvtop.session.pair_plan import PAIRS, pairs_now, with_pairs
from tests.faults.sessions import WORKLOAD, Watched, request
from tests.mock.fast import any_mock
from tests.mock.faulty import refusing_port
from tests.mock.process import MockProcess

LOAD = {"name": "hold", "rate": 100, "duration": "10m", "arrivals": "poisson"}


def paired(a: MockProcess, options: PairOptions, out: Path) -> Watched:
    asked = request(
        a.url, out, {"name": "w", "rate": 50, "duration": 0.3, "warmup": True}, LOAD, pair=options
    )
    assert asked.scenario is not None
    object.__setattr__(asked, "scenario", with_pairs(asked.scenario, options))
    return Watched(asked)


async def test_a_session_of_pairs_says_live_what_its_folder_says(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with any_mock(ttft_ms=5, step_ms=1, tokens=8) as a, any_mock(ttft_ms=45, step_ms=1, tokens=8) as b:
        watched = paired(a, PairOptions(b.url, same=30, pairs=60), out)
        await watched.until(lambda s: s.pairs is not None and s.pairs.stage == "same", "A against A")
        s = await watched.until(lambda s: s.pairs is not None and s.pairs.count > 20, "pairs")
        watched.send(Retarget(b.url))
        assert "not available" in watched.now.events[-1].text
        urls = a.url, b.url
        outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert outcome.summary is not None
    told = outcome.summary["pairs"]
    assert (told["a"], told["b"]) == urls
    assert told["count"] >= 60
    assert told["same_count"] >= 30
    assert told["count"] < 200
    row = told["rows"]["ttft"]
    assert row["word"] == "B higher"
    assert row["low"] < 40 + row["same_high"]
    assert row["called"] <= 60
    assert summarise(out)["pairs"] == told
    shown = watched.now.pairs
    assert shown is not None
    assert (shown.count, shown.rows[0].difference) == (told["count"], row["difference"])
    lines = watched.rows("pairs.jsonl")
    assert [line["pair"] for line in lines] == list(range(len(lines)))
    assert sum(line["stage"] == "both" for line in lines) == told["count"]
    assert {line["first"] for line in lines} == {"a", "b"}
    requests = watched.rows()
    assert all(one.get("target", 0) == (one["id"] % 2 if one["phase"] != SAME else 0) for one in requests)
    kinds = [event["text"] for event in watched.rows("events.jsonl") if event["kind"] == "pairs"]
    assert kinds[0].startswith("A against A")
    assert any("0 lies outside" in text for text in kinds)
    assert s.pairs is not None
    assert "was a run of pairs" in side_of(out, read_summary(out)).faults[-1]


async def test_a_second_server_that_refuses_costs_pairs_and_is_censored(tmp_path: Path) -> None:
    with any_mock(ttft_ms=5, step_ms=1, tokens=8) as a, any_mock(ttft_ms=5, step_ms=1, tokens=8) as b:
        watched = paired(a, PairOptions(b.url, same=0, pairs=10_000), tmp_path / "run")
        await watched.until(lambda s: s.pairs is not None and s.pairs.count > 30, "pairs")
        b.stop()
        s = await watched.until(lambda s: s.pairs is not None and s.pairs.lost > 10, "lost pairs")
        assert s.pairs is not None
        assert {row.word for row in s.pairs.rows} == {"CENSORED"}
        watched.session.kill()
        await watched.end()


async def test_a_second_server_that_is_not_there_ends_it_before_it_begins(tmp_path: Path) -> None:
    with any_mock(ttft_ms=5, step_ms=1, tokens=8) as a, refusing_port() as port:
        watched = paired(a, PairOptions(f"http://127.0.0.1:{port}"), tmp_path / "run")
        outcome = await watched.end()
    assert outcome.exit_code == 3
    assert "connection refused" in outcome.message
    assert not (tmp_path / "run").exists()


def scenario(*phases: dict[str, Any], workload: dict[str, Any] | None = None) -> Any:
    return scenario_from({"name": "s", "workload": workload or WORKLOAD, "phases": list(phases)}, "test")


def test_the_plan_begins_with_a_warm_up_and_a_against_a_at_half_the_rate() -> None:
    made = with_pairs(scenario(LOAD), PairOptions("http://b", same=50))
    assert [phase.name for phase in made.phases] == ["warm-up", SAME, "hold"]
    assert [phase.peak_rps for phase in made.phases] == [100.0, 50.0, 100.0]
    assert [phase.warmup for phase in made.phases] == [True, False, False]
    assert {phase.arrivals for phase in made.phases} == {"poisson"}
    assert json.dumps(made.to_yaml())
    own = with_pairs(scenario({**LOAD, "name": "w", "warmup": True}, LOAD), PairOptions("http://b", same=0))
    assert [phase.name for phase in own.phases] == ["w", "hold"]


def test_pairs_that_begin_from_a_session_have_its_workload_and_its_rate(tmp_path: Path) -> None:
    before = request("http://a", tmp_path, LOAD, max_rate=200.0, metrics_urls=("http://a/metrics",))
    asked = pairs_now(before, "http://a", Second("http://b", 24.0), ("tiny",))
    assert asked.scenario is not None
    assert before.scenario is not None
    assert asked.scenario.workload == before.scenario.workload
    assert [(one.name, one.peak_rps) for one in asked.scenario.phases] == [
        ("warm-up", 24.0),
        (SAME, 12.0),
        ("pairs", 24.0),
    ]
    assert asked.pair == PairOptions("http://b", pairs=PAIRS)
    assert (asked.url, asked.models, asked.max_rate) == ("http://a", ("tiny",), 200.0)
    assert asked.metrics_urls == before.metrics_urls
    assert asked.out.name.startswith("ab-")
    again = pairs_now(asked, "http://a", Second("http://a"), ())
    assert again.scenario is not None
    assert again.scenario.phases == asked.scenario.phases, "the same again, at the rate of the pairs before"
    elsewhere = pairs_now(before, "http://c", Second("http://b"), ())
    assert elsewhere.metrics_urls == ()
    watched = pairs_now(replace(before, scenario=None), "http://a", Second("http://b"), ())
    assert watched.scenario is not None
    assert watched.scenario.phases[-1].peak_rps == 5.0


@pytest.mark.parametrize(
    ("phases", "workload", "says"),
    [
        (({"name": "r", "rounds": {"sizes": [4]}},), None, "phase r has no rate"),
        (({**LOAD, "max_in_flight": 4},), None, "phase hold has max_in_flight"),
        (({**LOAD, "reset_prefix_cache": True},), None, "phase hold has reset_prefix_cache"),
        (({**LOAD, "profile": True},), None, "phase hold has profile"),
        (({**LOAD, "cancel": {"share": 0.5, "after": 1}},), None, "phase hold has cancel"),
        (({**LOAD, "name": SAME},), None, f"adds a phase {SAME}"),
        ((LOAD,), {**WORKLOAD, "turns": 3}, "has conversations"),
    ],
)
def test_a_scenario_that_can_t_be_sent_alike_is_refused(
    phases: tuple[dict[str, Any], ...], workload: dict[str, Any] | None, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        with_pairs(scenario(*phases, workload=workload), PairOptions("http://b"))


async def test_pairs_go_to_the_same_model_of_a_second_server_with_several(tmp_path: Path) -> None:
    with (
        any_mock(ttft_ms=5, step_ms=1, tokens=8, models=("m",)) as a,
        any_mock(ttft_ms=5, step_ms=1, tokens=8, models=("n", "m")) as b,
    ):
        watched = paired(a, PairOptions(b.url, same=0, pairs=20), tmp_path / "run")
        outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    assert {(row["model"], row["error"]) for row in watched.rows()} == {("m", None)}
