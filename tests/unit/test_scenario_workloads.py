"""Workloads in scenario files: what explain says of them, and what is said of those that can't be used."""

# ruff: noqa: E501  # one case a line: the tables of bad files are read like tables

from __future__ import annotations

from pathlib import Path

import pytest

from rvtop.scenario.explain import explain
from rvtop.scenario.load import ScenarioError, load_scenario
from rvtop.scenario.schema import Scenario, SyntheticWorkload, TraceWorkload

RATE = "  - {name: a, rate: 2, duration: 10s}\n"
REPLAY = "  - {name: a, trace: {speed: 2}}\n"
TASKS = "kind: tasks, prompt_tokens: 100, growth_tokens: 100, output_tokens: 9"
MADE = "kind: synthetic, prompt_tokens: 600, output_tokens: 9"
DRAWN = "kind: synthetic, prompt_tokens: {dist: normal, mean: 600, std: 100, max: 2048}, output_tokens: {dist: uniform, min: 8, max: 16}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "t.jsonl").write_text('{"timestamp": 0, "input_length": 3, "output_length": 1}\n')
    (tmp_path / "t.csv").write_text("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n")
    (tmp_path / "s.json").write_text("[]")
    (tmp_path / "p.txt").write_text("hi\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(workload: str, phases: str = RATE) -> Scenario:
    Path("f.yaml").write_text(f"name: x\nworkload: {{{workload}}}\nphases:\n{phases}", encoding="utf-8")
    return load_scenario("f.yaml")


def refusal(workload: str, phases: str = RATE) -> str:
    with pytest.raises(ScenarioError) as caught:
        load(workload, phases)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("workload", "sends", "asks"),
    [
        (MADE, "made-up prompts of 600 tokens, 9 tokens out", "180 output tokens"),
        (f"{MADE}, ignore_eos: false", "made-up prompts of 600 tokens, at most 9 tokens out", "at most 180 output tokens"),
        (DRAWN, "made-up prompts of 600 ± 100 (normal, 1 to 2,048) tokens, 8 to 16 (uniform) tokens out", "about 240 output tokens"),
        (f"{MADE}, prefix_tokens: 99", "made-up prompts of 600 tokens, all after a shared prefix of 99 tokens more, 9 tokens out", "180 output tokens"),
        (
            f"{MADE}, prefix_tokens: 99, prefix_share: 0.5, prefixes: 4",
            "made-up prompts of 600 tokens, 50 % of them after one of 4 shared prefixes of 99 tokens more, 9 tokens out",
            "180 output tokens",
        ),
        (
            f"{MADE}, turns: 3, think: 2s",
            "made-up prompts of 600 tokens, in conversations of 3 requests with 2 s to think between them, 9 tokens out",
            "each a conversation of 3 requests, at most 540 output tokens",
        ),
        (
            f"{MADE}, turns: {{dist: exponential, mean: 3, max: 9}}",
            "made-up prompts of 600 tokens, in conversations of 3 (exponential, 1 to 9) requests, 9 tokens out",
            "each a conversation of 3 (exponential, 1 to 9) requests, at most about 540 output tokens",
        ),
        ("kind: prompts, file: p.txt, limit: 5", "the first 5 prompts of {here}/p.txt, at most 256 tokens out", "at most 5,120 output tokens"),
        (
            "kind: prompts, file: s.json",
            "first questions of the ShareGPT conversations in {here}/s.json, at most as many tokens as the recorded answer (taken as a token per 4 bytes) out",
            "output tokens as recorded",
        ),
        (
            "kind: prompts, file: s.json, max_tokens: 5, multi_turn: true, think: 90s",
            "ShareGPT conversations of {here}/s.json with their recorded answers, 1 min 30 s to think before each next question, at most 5 tokens out",
            "each a conversation of as many requests as recorded",
        ),
    ],
)  # fmt: skip
def test_what_explain_says(folder: Path, workload: str, sends: str, asks: str) -> None:
    scenario = load(workload)
    lines = explain(scenario).splitlines()
    assert f"  sends    {sends.replace('{here}', str(folder))}, temperature 0" in lines
    assert lines[-1] == f"  in all   20 requests in 10 s (and up to 30 s of drains), {asks}"
    assert not scenario.workload.timed
    again = load_again(scenario)
    assert again == scenario


def load_again(scenario: Scenario) -> Scenario:
    Path("again.yaml").write_text(scenario.to_yaml(), encoding="utf-8")
    return load_scenario("again.yaml")


def test_a_trace_is_explained_and_has_its_own_times(folder: Path) -> None:
    scenario = load(
        "kind: trace, file: t.csv, format: burstgpt, start: 10m, limit: 1000, max_prompt_tokens: 4096", REPLAY
    )
    assert isinstance(scenario.workload, TraceWorkload)
    assert scenario.workload.timed
    assert (scenario.workload.start_s, scenario.workload.limit, scenario.workload.ignore_eos) == (
        600,
        1000,
        True,
    )
    sends = f"  sends    the first 1,000 requests of the burstgpt trace {folder}/t.csv from 10 min on at their recorded times,"
    sends += " made-up prompts of the recorded lengths (cut at 4,096 tokens), as many tokens as recorded out, temperature 0"
    assert sends in explain(scenario).splitlines()
    assert load_again(scenario) == scenario


def test_only_what_differs_is_written(folder: Path) -> None:
    scenario = load(f"{DRAWN}, count: 9, temperature: null")
    assert isinstance(scenario.workload, SyntheticWorkload)
    written = " ".join(scenario.to_yaml().split())
    assert "prompt_tokens: {dist: normal, mean: 600, std: 100, max: 2048}" in written
    assert "turns" not in written


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ("kind: synthetic, output_tokens: 9", "workload.prompt_tokens: is missing"),
        ("kind: synthetic, prompt_tokens: 0, output_tokens: 9", "workload.prompt_tokens: must be ≥ 1, got 0"),
        ("kind: synthetic, prompt_tokens: 1.5, output_tokens: 9", "workload.prompt_tokens: must be a whole number or {dist: normal, mean: M, std: S}, got 1.5"),
        ("kind: synthetic, prompt_tokens: [1], output_tokens: 9", "workload.prompt_tokens: must be a whole number or {dist: normal, mean: M, std: S}, got a list"),
        ("kind: synthetic, prompt_tokens: {mean: 5}, output_tokens: 9", "workload.prompt_tokens.dist: is missing"),
        ("kind: synthetic, prompt_tokens: {dist: cauchy}, output_tokens: 9", "workload.prompt_tokens.dist: must be normal, lognormal, uniform or exponential, got cauchy"),
        ("kind: synthetic, prompt_tokens: {dist: normal, mean: 5}, output_tokens: 9", "workload.prompt_tokens.std: is missing (normal needs mean and std)"),
        ("kind: synthetic, prompt_tokens: {dist: normal, mean: 5, stdev: 2}, output_tokens: 9", "workload.prompt_tokens.stdev: unknown key; did you mean std?"),
        ("kind: synthetic, prompt_tokens: {dist: normal, mean: 5, std: 0}, output_tokens: 9", "workload.prompt_tokens.std: must be > 0, got 0"),
        ("kind: synthetic, prompt_tokens: {dist: uniform, min: 5, max: 2}, output_tokens: 9", "workload.prompt_tokens.min: is above max, 2"),
        ("kind: synthetic, prompt_tokens: {dist: uniform, min: 5, max: 7, mean: 6}, output_tokens: 9", "workload.prompt_tokens.mean: has no meaning for uniform, which takes min, max"),
        ("kind: synthetic, prompt_tokens: 5, output_tokens: {dist: exponential, mean: 9, max: 8}", "workload.output_tokens.mean: must lie between min and max, 1 to 8, got 9"),
        (f"{MADE}, prefixes: 2", "workload.prefixes: needs prefix_tokens, the length of a shared prefix"),
        (f"{MADE}, prefix_tokens: 5, prefix_share: 50", "workload.prefix_share: must be ≤ 1, got 50"),
        (f"{MADE}, prefix_tokens: 5, count: 10, prefix_share: 0.2, prefixes: 3", "workload.prefixes: is more than the 2 prompts that begin with one"),
        (f"{MADE}, turns: 2, think: 2x", "workload.think: unknown unit 'x' in '2x': use ms, s, m or h"),
        (f"{MADE}, think: 2s", "workload.think: is for turns: 2 or more"),
        (f"{MADE}, turns: 1001", "workload.turns: must be at most 1000 (give a distribution a max)"),
        (f"{MADE}, turns: {{dist: exponential, mean: 3}}", "workload.turns: must be at most 1000 (give a distribution a max)"),
        (f"{MADE}, count: 1000000", "workload.count: about 3.35 GiB of prompts for each worker to hold; lower count or the lengths"),
        ("kind: synthetic, prompt_tokens: 9000000, output_tokens: 9", "workload.prompt_tokens: about 25.7 GiB of prompts for each worker to hold; lower count or the lengths"),
        ("kind: tasks, prompt_tokens: 5, growth_tokens: 5", "workload.output_tokens: is missing (tasks are made of lengths, or give file)"),
        (f"{TASKS}, limit: 5", "workload.limit: is for a file; count says how many tasks are made"),
        (f"{TASKS}, steps: 1001", "workload.steps: must be at most 1000 (give a distribution a max)"),
        (f"{TASKS}, fan_out: 2", "workload.fan_out: needs fan_share, the share of the steps before which a task forks"),
        (f"{TASKS}, fan_out: 1, fan_share: 0.5", "workload.fan_out: must be 2 branches or more"),
        ("kind: tasks, file: p.jsonl, steps: 5", "workload.steps: is for tasks that are made, not for those of a file"),
        (f"{TASKS}, count: 900000", "workload.count: about 3.02 GiB of prompts for each worker to hold; lower count or the lengths"),
        ("kind: prompts, file: p.txt, format: sharegpt", "workload.format: sharegpt is a .json or .jsonl file"),
        ("kind: prompts, file: p.txt, format: csv", "workload.format: must be sharegpt, aiperf or aiperf-pool, got csv"),
        ("kind: prompts, file: p.txt, multi_turn: true", "workload.multi_turn: is for format: sharegpt only (rows of .jsonl have their own turns)"),
        ("kind: prompts, file: s.json, think: 2s", "workload.think: is for multi_turn: true only"),
    ],
)  # fmt: skip
def test_one_line_with_file_line_and_key(folder: Path, workload: str, said: str) -> None:
    assert refusal(workload) == f"f.yaml:2: {said}"


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ("kind: trace", "workload.file: is missing"),
        ("kind: trace, file: t.txt", "workload.file: must end in .jsonl, .csv or .json (OpenTelemetry), got t.txt"),
        ("kind: trace, file: none.csv", "workload.file: no such file: {here}/none.csv"),
        ("kind: trace, file: t.csv, format: aws", "workload.format: must be mooncake, bailian, aiperf, otel, burstgpt or azure, got aws"),
        ("kind: trace, file: t.csv, format: mooncake", "workload.file: {here}/t.csv: a mooncake trace is a .jsonl file"),
        ("kind: trace, file: t.csv, format: azure", "workload.file: {here}/t.csv:1: a trace of format azure has 'TIMESTAMP' in its first line"),
        ("kind: trace, file: t.jsonl, format: otel, max_prompt_tokens: 9", "workload.max_prompt_tokens: is not for sessions, whose prompts grow"),
        ("kind: trace, file: t.jsonl, start: 10x", "workload.start: unknown unit 'x' in '10x': use ms, s, m or h"),
        ("kind: trace, file: t.jsonl, limit: 0", "workload.limit: must be ≥ 1, got 0"),
        ("kind: trace, file: t.jsonl, speed: 2", "workload.speed: unknown key; known here: block_tokens, file, format, ignore_eos, kind, limit, max_prompt_tokens, start, temperature"),
    ],
)  # fmt: skip
def test_one_line_of_a_trace_that_can_not_be_replayed(folder: Path, workload: str, said: str) -> None:
    assert refusal(workload, REPLAY) == f"f.yaml:2: {said.replace('{here}', str(folder))}"
