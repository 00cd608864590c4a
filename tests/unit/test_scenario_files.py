"""Scenario files: what they mean, and what is said of those that can't be used."""

# ruff: noqa: E501  # one case a line: the tables of bad files are read like tables

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.scenario.explain import explain
from rvtop.scenario.load import (
    ScenarioError,
    find_scenario,
    load_scenario,
    scenario_from,
    shipped_scenarios,
)
from rvtop.scenario.schema import PromptsWorkload, RagWorkload, Scenario, Slo, SyntheticWorkload
from rvtop.scenario.units import MAX_DURATION_S, format_duration, human_duration, parse_duration

FULL = """\
# every key there is
name: ramp-48
seed: 7
models: [q3b, q15b]
workload: {kind: rag, where: client, questions: questions.txt, top_k: 4, max_tokens: 256}
phases:
  - {name: warm,   rate: 2, duration: 10s, warmup: true}
  - {name: climb,  rate: {from: 1, to: 48, shape: linear}, duration: 60s, arrivals: poisson}
  - {name: hold,   rate: 48, duration: 1m, max_in_flight: 512, drain: 5s, arrivals: gamma, burstiness: 0.5}
  - {name: paper,  rounds: {sizes: [1, 6, 12, 24, 48], repeat: 5}}
slo: {ttft_ms: 200, tpot_ms: 50}
thresholds: {ttft_p99_ms: 500, error_rate: 0.01}
"""
SMALL = """\
name: x
workload: {kind: prompts, file: a.jsonl}
phases:
  - {name: a, rate: 1, duration: 1s}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "questions.txt").write_text("why?\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"id":"a","prompt":"hi"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str) -> Scenario:
    Path("f.yaml").write_text(text, encoding="utf-8")
    return load_scenario("f.yaml")


def refusal(text: str) -> str:
    """The first mistake of a file."""
    Path("f.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario("f.yaml")
    assert "\n" not in str(caught.value)
    first, *more = caught.value.lines
    assert str(caught.value) == (f"{first} ({len(more)} more)" if more else first)
    return first


# -- what a file means -------------------------------------------------------------------------


def test_every_key(folder: Path) -> None:
    scenario = load(FULL)
    assert (scenario.name, scenario.seed, scenario.models) == ("ramp-48", 7, ("q3b", "q15b"))
    workload = scenario.workload
    assert isinstance(workload, RagWorkload)
    assert workload.questions == str(folder / "questions.txt")
    assert (workload.where, workload.index, workload.top_k, workload.max_tokens) == ("client", None, 4, 256)
    assert (workload.ignore_eos, workload.temperature) == (False, 0.0)
    warm, climb, hold, paper = scenario.phases
    assert warm.rate is not None
    assert (warm.rate.constant, warm.rate.start, warm.duration_s, warm.warmup) == (True, 2, 10, True)
    assert (warm.arrivals, warm.drain_s, warm.max_in_flight) == ("constant", 30, None)
    assert climb.rate is not None
    assert (climb.rate.start, climb.rate.end, climb.rate_plan().line().rate(30), climb.arrivals) == (
        1,
        48,
        24.5,
        "poisson",
    )
    assert (hold.duration_s, hold.drain_s, hold.max_in_flight, hold.burstiness) == (60, 5, 512, 0.5)
    assert paper.rounds is not None
    assert (paper.rounds.sizes, paper.rounds.repeat) == ((1, 6, 12, 24, 48), 5)
    assert (paper.rate, paper.duration_s, paper.drain_s) == (None, None, None)
    assert scenario.slo == Slo(ttft_ms=200, tpot_ms=50)
    assert scenario.thresholds == {"ttft_p99_ms": 500, "error_rate": 0.01}
    assert scenario.duration_s == 130


def test_what_is_left_out(folder: Path) -> None:
    scenario = load(SMALL.replace("name: x\n", ""))
    assert (scenario.name, scenario.seed, scenario.models) == ("f", 0, ())
    assert isinstance(scenario.workload, PromptsWorkload)
    assert scenario.files == (("file", folder / "a.jsonl"),)
    assert (scenario.slo, scenario.thresholds) == (None, {})


def test_files_are_relative_to_the_scenario(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "s.yaml").write_text(SMALL.replace("a.jsonl", "../a.jsonl"), encoding="utf-8")
    assert load_scenario(folder / "deep" / "s.yaml").files == (("file", folder / "a.jsonl"),)


def test_synthetic_lengths_and_server_side_rag(folder: Path) -> None:
    made_up = load(
        SMALL.replace("kind: prompts, file: a.jsonl", "kind: synthetic, prompt_tokens: 600, output_tokens: 9")
    )
    assert isinstance(made_up.workload, SyntheticWorkload)
    assert (made_up.workload.prompt_tokens, made_up.workload.output_tokens, made_up.workload.ignore_eos) == (
        600,
        9,
        True,
    )
    server = load(
        SMALL.replace("kind: prompts, file: a.jsonl", "kind: rag, where: server, temperature: null")
    )
    assert isinstance(server.workload, RagWorkload)
    assert (server.workload.where, server.workload.questions, server.workload.temperature) == (
        "server",
        "sample",
        None,
    )
    assert server.files == ()


def test_numbers_as_people_write_them(folder: Path) -> None:
    (phase,) = load(SMALL.replace("rate: 1", "rate: 1e3")).phases
    assert phase.rate is not None
    assert phase.rate.start == 1000
    (phase,) = load(SMALL.replace("1s}", "1m30s}")).phases
    assert phase.duration_s == 90


def test_a_scenario_is_frozen(folder: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(SMALL).name = "y"  # type: ignore[misc]


def test_written_and_read_again_it_is_the_same(folder: Path) -> None:
    for text in (
        FULL,
        SMALL,
        SMALL.replace("file: a.jsonl", "file: a.jsonl, temperature: null"),
    ):
        scenario = load(text)
        assert load(scenario.to_yaml()) == scenario


def test_expected_requests(folder: Path) -> None:
    scenario = load(FULL)
    assert [phase.expected_requests(2) for phase in scenario.phases] == [
        20,
        24.5 * 60,
        2880,
        5 * (2 + 6 + 12 + 24 + 48),
    ]


def test_a_scenario_from_flags() -> None:
    workload = {"kind": "synthetic", "prompt_tokens": 8, "output_tokens": 8}
    good = {
        "name": "quick",
        "workload": workload,
        "phases": [{"name": "load", "rate": 2.5, "duration": "10s"}],
    }
    assert scenario_from(good, "flags").duration_s == 10
    good["phases"] = [{"name": "load", "rate": -1.0, "duration": "10s"}]
    with pytest.raises(ScenarioError) as caught:
        scenario_from(good, "flags")
    assert str(caught.value) == "flags: phases[0].rate: must be ≥ 0, got -1.0"
    assert caught.value.line is None


# -- what is said of a bad one -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rate: 1", "rate: -1", "4: phases[0].rate: must be ≥ 0, got -1"),
        ("rate: 1", "rate: fast", "4: phases[0].rate: must be a number of requests per second or {from: A, to: B}, got fast"),
        ("rate: 1", "rate: yes", "4: phases[0].rate: must be a number of requests per second or {from: A, to: B}, got yes"),
        ("rate: 1", "rate: .inf", "4: phases[0].rate: must be a finite number, got .inf"),
        ("rate: 1", "rate: 2e6", "4: phases[0].rate: must be ≤ 1e+06, got 2e6"),
        ("rate: 1", "raet: 1", "4: phases[0].raet: unknown key; did you mean rate?"),
        ("rate: 1, ", "", "4: phases[0].rate: is missing (a phase needs rate and duration, rounds, concurrency or trace)"),
        ("rate: 1", "rate: {from: 1}", "4: phases[0].rate.to: is missing"),
        ("rate: 1", "rate: {from: 1, to: -2}", "4: phases[0].rate.to: must be ≥ 0, got -2"),
        ("rate: 1", "rate: {from: 1, till: 2}", "4: phases[0].rate.till: unknown key; known here: at, for, from, over, shape, steps, to"),
        ("rate: 1", "rate: {from: 1, to: 2, shape: round}", "4: phases[0].rate.shape: must be linear, exponential, step or spike, got round"),
        ("rate: 1", "rate: {from: 0, to: 2, shape: exponential}", "4: phases[0].rate.from: an exponential ramp needs rates > 0 at both ends"),
        ("rate: 1", "rate: {from: 1, to: 2, steps: 4}", "4: phases[0].rate.steps: is for shape: step only"),
        ("rate: 1", "rate: {from: 1, to: 2, shape: spike, at: 100ms}", "4: phases[0].rate.for: is missing (a spike is {from: A, to: B, shape: spike, at: 20s, for: 5s})"),
        ("rate: 1", "rate: {from: 1, to: 2, shape: spike, at: 1s, for: 1s}", "4: phases[0].rate.for: the spike must end within the phase"),
        ("rate: 1, duration: 1s", "concurrency: 4", "4: phases[0].concurrency: a closed loop needs either duration or requests"),
        ("rate: 1, duration: 1s", "concurrency: 4, duration: 1s, requests: 9", "4: phases[0].concurrency: a closed loop needs either duration or requests"),
        ("rate: 1", "concurrency: 4, max_in_flight: 2", "4: phases[0].max_in_flight: has no place beside concurrency; there go: duration, requests, drain, cancel, warmup, begins, marks, reset_prefix_cache, profile"),
        ("rate: 1, duration: 1s", "trace: {speed: 2}", "4: phases[0].trace: needs a workload of kind: trace"),
        ("duration: 1s", "duration: 1s, cancel: {share: 2, after: 1s}", "4: phases[0].cancel.share: must be ≤ 1, got 2"),
        ("duration: 1s", "duration: 1s, cancel: {share: 0.5}", "4: phases[0].cancel.after: is missing"),
        ("1s", "10 sec", "4: phases[0].duration: unknown unit 'sec' in '10 sec': use ms, s, m or h"),
        ("1s", "1m30", "4: phases[0].duration: 30 in '1m30' needs a unit: 30s, 30ms, 30m or 30h"),
        ("1s", "-10", "4: phases[0].duration: must be a time such as 30s, 500ms, 2m or 1h, got -10"),
        ("1s", ".nan", "4: phases[0].duration: must be a time such as 30s, 500ms, 2m or 1h, got .nan"),
        ("1s", "true", "4: phases[0].duration: must be a time such as 30s, 500ms, 2m or 1h, got true"),
        ("1s", "9e9", "4: phases[0].duration: must be at most 30 days, got 9e9"),
        ("1s", "-5s", "4: phases[0].duration: must be a time such as 30s, 500ms, 2m or 1h, got '-5s'"),
        ("1s", "0s", "4: phases[0].duration: must be longer than 0"),
        ("1s", "9999h", "4: phases[0].duration: must be at most 30 days, got '9999h'"),
        ("1s}", "1s, warmup: 1}", "4: phases[0].warmup: must be true or false, got 1"),
        ("1s}", "1s, warmup: true}", "3: phases: every phase is a warm-up: nothing would be measured"),
        ("1s}", "1s, max_in_flight: 0}", "4: phases[0].max_in_flight: must be ≥ 1, got 0"),
        ("1s}", "1s, arrivals: gama}", "4: phases[0].arrivals: must be constant, poisson or gamma, got gama"),
        ("1s}", "1s, arrivals: gamma}", "4: phases[0].arrivals: gamma needs burstiness (1 is Poisson, smaller is burstier)"),
        ("1s}", "1s, burstiness: 1}", "4: phases[0].burstiness: is for arrivals: gamma only"),
        ("1s}", "1s, rounds: {sizes: [1]}}", "4: phases[0].rate: has no place beside rounds; there go: cancel, warmup, begins, marks, reset_prefix_cache, profile"),
        ("rate: 1, duration: 1s", "rounds: {sizes: []}", "4: phases[0].rounds.sizes: must not be empty"),
        ("rate: 1, duration: 1s", "rounds: {sizes: [1, 0]}", "4: phases[0].rounds.sizes[1]: must be ≥ 1, got 0"),
        ("rate: 1, duration: 1s", "warmup: false", "4: phases[0]: needs rate and duration, rounds, concurrency or trace"),
        ("name: a,", "name: a/b,", "4: phases[0].name: must not hold / or #, got a/b"),
        ("name: a,", "", "4: phases[0].name: is missing"),
        ("1s}\n", "1s}\n  - {name: a, rate: 1, duration: 1s}\n", "5: phases[1].name: two phases are called 'a'"),
        ("name: x\n", "name: x\nname: y\n", "2: name: given twice (first in line 1)"),
        ("name: x\n", "name: x\nmodles: [a]\n", "2: modles: unknown key; did you mean models?"),
        ("name: x\n", "name: x\nmodels: a\n", "2: models: must be a list, got a"),
        ("name: x\n", "name: x\nmodels: [a, a]\n", "2: models: names a model twice"),
        ("name: x\n", "name: x\nmodels:\n  - a\n  - 1\n", "4: models[1]: must be text, got 1"),
        ("name: x\n", "name: x\nseed: -1\n", "2: seed: must be ≥ 0, got -1"),
        ("name: x\n", "name: x\nseed: 1.5\n", "2: seed: must be a whole number, got 1.5"),
        ("name: x\n", "name: x\ntarget: u\n", "2: target: does not belong in a scenario: give it on the command line (--target URL)"),
        ("name: x\n", "name: x\nthresholds: {ttft_p99: 1}\n", "2: thresholds.ttft_p99: unknown threshold; did you mean ttft_p99_ms?"),
        ("name: x\n", "name: x\nthresholds: {error_rate: no}\n", "2: thresholds.error_rate: must be a number, got no"),
        ("name: x\n", "name: x\nthresholds: {min_goodput_rps: 1}\n", "2: thresholds.min_goodput_rps: needs an slo: goodput is what meets it"),
        ("name: x\n", "name: x\nthresholds:\n", "2: thresholds: must be keys and values, got nothing"),
        ("name: x\n", "name: x\nslo: {ttft: 1}\n", "2: slo.ttft: unknown key; did you mean ttft_ms?"),
        ("name: x\n", "name: x\nslo: {ttft_ms: 0}\n", "2: slo.ttft_ms: must be > 0, got 0"),
        ("kind: prompts, ", "", "2: workload.kind: must be rag, prompts, synthetic, tasks, trace or plugin"),
        ("kind: prompts", "kind: promts", "2: workload.kind: must be rag, prompts, synthetic, tasks, trace or plugin, got promts"),
        ("kind: prompts", "kind: trace", "4: phases[0]: a trace is replayed by a phase with trace: {speed: 1}"),
        (", file: a.jsonl", ", file: a.jsonl, stream: false", "2: workload.stream: unknown key; known here: file, format, ignore_eos, kind, limit, max_tokens, multi_turn, temperature, think"),
        (", file: a.jsonl", "", "2: workload.file: is missing"),
        ("a.jsonl", "a.csv", "2: workload.file: must end in .jsonl, .txt or .json (ShareGPT), got a.csv"),
        ("prompts, file: a.jsonl", "rag, top_k: 0", "2: workload.top_k: must be ≥ 1, got 0"),
        ("prompts, file: a.jsonl", "rag, max_tokens: 1.5", "2: workload.max_tokens: must be a whole number, got 1.5"),
        ("prompts, file: a.jsonl", "rag, where: server, index: d", "2: workload.index: is for where: client only (the server has its own index)"),
        ("prompts, file: a.jsonl", "rag, where: moon", "2: workload.where: must be client or server, got moon"),
        ("{kind: prompts, file: a.jsonl}", "[rag]", "2: workload: must be keys and values, got a list"),
        ("phases:\n  - {name: a, rate: 1, duration: 1s}\n", "", "1: phases: is missing"),
        ("  - {name: a, rate: 1, duration: 1s}\n", "", "3: phases: must be a list, got nothing"),
        ("  - {name: a, rate: 1, duration: 1s}\n", "  []\n", "3: phases: must not be empty"),
        ("{name: a, rate: 1, duration: 1s}", "hold", "4: phases[0]: must be keys and values, got hold"),
    ],
)  # fmt: skip
def test_one_line_with_file_line_and_key(folder: Path, old: str, new: str, said: str) -> None:
    assert old in SMALL
    assert refusal(SMALL.replace(old, new, 1)) == f"f.yaml:{said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yaml: is empty"),
        ("# nothing\n", "f.yaml: is empty"),
        ("- a\n", "f.yaml:1: must be keys and values (key: value)"),
        ("name: x\na: [1\n", "f.yaml:3: not YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"),
        ("name: x\na: b: c\n", "f.yaml:2: not YAML: mapping values are not allowed here"),
        ("name: x\n\ta: 1\n", "f.yaml:2: not YAML: while scanning for the next token found character '\\t' that cannot start any token"),
        ("name: x\0\n", "f.yaml:1: not YAML: special characters are not allowed"),
        ("name: x\nphases: !!python/object/apply:os.system [ls]\n", "f.yaml:2: phases: tags (!…) have no place here"),
        ("name: x\nseed: !!python/name:os.system x\n", "f.yaml:2: tags (!…) have no place here"),
        ("a: &x [*x]\n", "f.yaml:1: a[0][0]: holds far too much"),
        ("[" * 5000, "f.yaml: nested too deeply"),
        ("? [a]\n: 1\n", "f.yaml:1: a key must be a plain word"),
        (SMALL + "---\nname: y\n", "f.yaml:5: not YAML: expected a single document in the stream but found another document"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_at_all(folder: Path, text: str, said: str) -> None:
    assert refusal(text) == said


def test_a_billion_laughs_are_refused(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert refusal("\n".join(lines)).endswith("holds far too much")


def test_files_that_are_not_there(folder: Path) -> None:
    assert (
        refusal(SMALL.replace("a.jsonl", "b.jsonl"))
        == f"f.yaml:2: workload.file: no such file: {folder / 'b.jsonl'}"
    )
    assert refusal(FULL.replace("questions.txt", "q.txt")).startswith(
        "f.yaml:5: workload.questions: no such file: "
    )
    assert load_scenario("f.yaml", check_files=False).name == "ramp-48"
    with pytest.raises(ScenarioError, match=r"^none\.yaml: can't read it: No such file or directory$"):
        load_scenario("none.yaml")
    with pytest.raises(ScenarioError, match="can't read it: Is a directory"):
        load_scenario(folder)
    (folder / "latin.yaml").write_bytes(b"name: x\nmodels: [\xff]\n")
    with pytest.raises(ScenarioError, match=r"^latin\.yaml:2: is not UTF-8 text$"):
        load_scenario("latin.yaml")


# -- shipped ones ------------------------------------------------------------------------------


def test_shipped_scenarios_are_found_by_name() -> None:
    names = shipped_scenarios()
    assert set(names) >= {"smoke", "demo", "ramp", "spike", "soak", "paper-rounds", "showdown", "rag-long"}
    for name in names:
        assert find_scenario(name).name == f"{name}.yaml"


def test_a_name_that_is_none(folder: Path) -> None:
    for name, said in [
        ("smokee", "smokee: no such scenario; did you mean smoke? shipped: "),
        ("zzz", "zzz: no such scenario; shipped: agent, autoscale, batch, canary, chat, demo, "),
        ("smoke.yaml", "smoke.yaml: no such file"),
        ("x/smoke", "x/smoke: no such file"),
        (str(folder), f"{folder}: is a folder, not a scenario file"),
    ]:
        with pytest.raises(ScenarioError) as caught:
            find_scenario(name)
        assert str(caught.value).startswith(said)
    (folder / "smoke").write_text(SMALL, encoding="utf-8")
    assert find_scenario("smoke") == Path("smoke")  # a file of that name here comes first


@pytest.mark.parametrize("name", shipped_scenarios())
def test_each_shipped_scenario_loads_and_explains(name: str, tmp_path: Path) -> None:
    path = find_scenario(name)
    assert path.read_text(encoding="utf-8").startswith("# ")
    scenario = load_scenario(path)
    assert scenario.name == name
    text = explain(scenario)
    for phase in scenario.phases:
        assert phase.name in text
    assert "in all" in text
    written = tmp_path / "again.yaml"
    written.write_text(scenario.to_yaml(), encoding="utf-8")
    assert load_scenario(written) == scenario


def test_explain_says_what_will_happen(folder: Path) -> None:
    lines = [" ".join(line.split()) for line in explain(load(FULL)).splitlines()]
    assert lines[0] == "ramp-48 (seed 7)"
    assert "to q3b, q15b in turn" in lines
    assert "warm 0 s 10 s 2 rps constant 20 warm-up, not measured, drains ≤ 30 s" in lines
    assert "climb 10 s 1 min 1 → 48 rps poisson ~1470 drains ≤ 30 s" in lines
    assert any(
        line.startswith("paper 2 min 10 s until all end 1, 6, 12, 24, 48 at once, 5 times each 460")
        for line in lines
    )
    assert any(line.startswith("in all about 4,830 requests in 2 min 10 s and the rounds") for line in lines)
    assert "passes with ttft_p99_ms ≤ 500, error_rate ≤ 0.01; otherwise exit code 1" in lines


# -- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1.5 s", 1.5),
        (".5s", 0.5),
        ("1h 2m 3s", 3723),
        ("1e2s", 100),
        ("10", 10),
        (" 1.5 ", 1.5),
        ("1e2", 100),
        ("0", 0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "1m30", "10 20s", "1d", "10S", "5 s m", "1:30", "-1s", "1,5s", "ten s", "10s x", "1e400s"],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|unknown unit|needs a unit"):
        parse_duration(text)


@given(st.floats(0, MAX_DURATION_S))
def test_times_survive_being_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_a_time_without_a_unit_is_seconds_wherever_one_stands() -> None:
    scenario = scenario_from(
        {
            "name": "x",
            "workload": {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 5, "turns": 2, "think": 2},
            "phases": [
                {"name": "a", "rate": 1, "duration": 10, "drain": 5, "cancel": {"share": 0.5, "after": 0.5}},
                {
                    "name": "b",
                    "rate": {"from": 1, "to": 9, "shape": "spike", "at": 2, "for": 3},
                    "duration": "9",
                },
            ],
        },
        "here",
    )
    first, second = scenario.phases
    assert first.cancel is not None
    assert second.rate is not None
    assert (first.duration_s, first.drain_s, first.cancel.after_s) == (10, 5, 0.5)
    assert (second.rate.peak_at_s, second.rate.peak_for_s, second.duration_s) == (2, 3, 9)
    assert scenario.workload.think_s == 2  # type: ignore[union-attr]


def test_times_for_people() -> None:
    assert [human_duration(s) for s in (0, 0.5, 45, 60, 90, 3600, 7530)] == [
        "0 s", "0.5 s", "45 s", "1 min", "1 min 30 s", "1 h", "2 h 5 min 30 s",
    ]  # fmt: skip
