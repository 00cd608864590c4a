"""A file with mistakes: all of them are told at once, each with file, line and key."""

# ruff: noqa: E501  # one mistake a line: the tables of bad files are read like tables

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvtop.cli.app import command as run_command
from rvtop.scenario.load import ScenarioError, load_scenario

HEAD = "name: x\nworkload: {kind: rag}\n"
LOAD = "  - {name: a, rate: 1, duration: 1s}\n"
PHASE = "phases:\n" + LOAD
ALL = "name: x\nworkload: %s\n" + PHASE
KINDS = "a phase needs rate and duration, rounds, concurrency or trace"
RATE = "must be a number of requests per second or {from: A, to: B}"
TIME = "must be a time such as 30s, 500ms, 2m or 1h"
SHAPES = "at, for, from, over, shape, steps, to"
AT_RATE = "duration, arrivals, burstiness, max_in_flight, drain, cancel, warmup, changes, offset, stream, begins, marks, reset_prefix_cache, profile"

FILES: list[tuple[str, list[str]]] = []


def file(text: str, *said: str) -> None:
    FILES.append((text, [f"f.yaml:{line}" for line in said]))


# -- several mistakes at once
file(
    HEAD + "phases:\n" + LOAD + LOAD + "  - 7\n  - {name: t, trace: {}}\n",
    "5: phases[1].name: two phases are called 'a'",
    "6: phases[2]: must be keys and values, got 7",
    "7: phases[3].trace: needs a workload of kind: trace",
)
file(
    """\
name: x
sede: 1
workload: {kind: rag, top_k: 0, temprature: 1, where: moon}
phases:
  - {name: a, raet: 1, duration: 10 sec, warmup: yes please}
  - {name: a, rate: fast, duration: 1s, arrivals: gama, drain: -1}
  - {name: b/c, rounds: {sizes: [1, 0, x]}}
slo: {ttft: 1, tpot_ms: 0}
thresholds: {ttft_p99: 1, error_rate: no}
""",
    "2: sede: unknown key; did you mean seed?",
    "3: workload.top_k: must be ≥ 1, got 0",
    "3: workload.temprature: unknown key; did you mean temperature?",
    "3: workload.where: must be client or server, got moon",
    "5: phases[0].raet: unknown key; did you mean rate?",
    "5: phases[0].duration: unknown unit 'sec' in '10 sec': use ms, s, m or h",
    "5: phases[0].warmup: must be true or false, got yes please",
    "6: phases[1].name: two phases are called 'a'",
    f"6: phases[1].rate: {RATE}, got fast",
    "6: phases[1].arrivals: must be constant, poisson or gamma, got gama",
    f"6: phases[1].drain: {TIME}, got -1",
    "7: phases[2].name: must not hold / or #, got b/c",
    "7: phases[2].rounds.sizes[1]: must be ≥ 1, got 0",
    "7: phases[2].rounds.sizes[2]: must be a whole number, got x",
    "8: slo.ttft: unknown key; did you mean ttft_ms?",
    "8: slo.tpot_ms: must be > 0, got 0",
    "9: thresholds.ttft_p99: unknown threshold; did you mean ttft_p99_ms?",
    "9: thresholds.error_rate: must be a number, got no",
)
file(
    "name: x\nname: y\nseed: 1\nseed: 2\nworkload: {kind: rag, kind: trace, top_k: 0}\n" + PHASE,
    "2: name: given twice (first in line 1)",
    "4: seed: given twice (first in line 3)",
    "5: workload.kind: given twice (first in line 5)",
    "5: workload.top_k: must be ≥ 1, got 0",
)
file(
    HEAD + "phases:\n  - {name: a, rate: 1, duration: 1s, rounds: {sizes: []}, drain: x}\n",
    "4: phases[0].rate: has no place beside rounds; there go: cancel, warmup, begins, marks, reset_prefix_cache, profile",
    "4: phases[0].duration: has no place beside rounds; there go: cancel, warmup, begins, marks, reset_prefix_cache, profile",
    "4: phases[0].rounds.sizes: must not be empty",
    "4: phases[0].drain: has no place beside rounds; there go: cancel, warmup, begins, marks, reset_prefix_cache, profile",
    f"4: phases[0].drain: {TIME}, got 'x'",
)
file(
    HEAD + "phases:\n  - {rate: 1}\n  - {name: b, duration: 1s}\n  - {name: c}\n  - hold\n",
    f"4: phases[0].duration: is missing ({KINDS})",
    "4: phases[0].name: is missing",
    f"5: phases[1].rate: is missing ({KINDS})",
    "6: phases[2]: needs rate and duration, rounds, concurrency or trace",
    "7: phases[3]: must be keys and values, got hold",
)
file(
    HEAD
    + "models: [a, a]\nphases:\n  - {name: w, rate: 1, duration: 1s, warmup: true}\nthresholds: {min_goodput_rps: 1}\n",
    "3: models: names a model twice",
    "4: phases: every phase is a warm-up: nothing would be measured",
    "6: thresholds.min_goodput_rps: needs an slo: goodput is what meets it",
)
file(
    "workload: {kind: synthetic, prompt_tokens: {dist: normal, mean: 5}, output_tokens: {dist: uniform, min: 9, max: 2, std: 1}, prefixes: 2, think: 1s}\n"
    + PHASE,
    "1: workload.prompt_tokens.std: is missing (normal needs mean and std)",
    "1: workload.output_tokens.min: is above max, 2",
    "1: workload.output_tokens.std: has no meaning for uniform, which takes min, max",
)
file(
    ALL % "{kind: synthetic, prompt_tokens: 9, output_tokens: 9, prefixes: 2, prefix_share: 0.5, think: 1s}",
    "2: workload.prefixes: needs prefix_tokens, the length of a shared prefix",
    "2: workload.prefix_share: needs prefix_tokens, the length of a shared prefix",
    "2: workload.think: is for turns: 2 or more",
)
file(
    ALL % "{kind: synthetic, prompt_tokens: nine, output_tokens: 0, prefixes: 2, turns: 5000}",
    "2: workload.prompt_tokens: must be a whole number or {dist: normal, mean: M, std: S}, got nine",
    "2: workload.output_tokens: must be ≥ 1, got 0",
)
file(
    HEAD
    + "phases:\n  - {name: a, rate: {from: 0, to: 2, shape: exponential, steps: 4, at: 1s, over: 0s}, duration: 0s, arrivals: gamma, drain: 5 days}\n",
    "4: phases[0].rate.from: an exponential ramp needs rates > 0 at both ends",
    "4: phases[0].rate.steps: is for shape: step only",
    "4: phases[0].rate.at: is for shape: spike only",
    "4: phases[0].rate.over: must be longer than 0",
    "4: phases[0].duration: must be longer than 0",
    "4: phases[0].arrivals: gamma needs burstiness (1 is Poisson, smaller is burstier)",
    "4: phases[0].drain: unknown unit 'days' in '5 days': use ms, s, m or h",
)
file(
    HEAD + "phases:\n  - {name: a, rate: 1, duration: 0s, arrivals: gamma, drain: 5 days}\n",
    "4: phases[0].duration: must be longer than 0",
    "4: phases[0].arrivals: gamma needs burstiness (1 is Poisson, smaller is burstier)",
    "4: phases[0].drain: unknown unit 'days' in '5 days': use ms, s, m or h",
)
file(
    HEAD
    + "phases:\n  - {name: a, rate: 1, duration: 9s, changes: [{at: 2s, rate: fast}, {at: 1s, rate: -1}, {rate: plan}], marks: [{at: 2s, note: ''}, {at: 1s}]}\n",
    "4: phases[0].changes[0].rate: must be a number of requests per second, or plan",
    "4: phases[0].changes[1].rate: must be ≥ 0, got -1",
    "4: phases[0].changes[1].rate: must be plan, got -1",
    "4: phases[0].changes[2].at: is missing",
    "4: phases[0].marks[0].note: must not be empty",
    "4: phases[0].marks[1].note: is missing",
)
file(
    "name: x\ntarget: http://h\ntopology: rvc\nmodels: a\n",
    "1: workload: is missing",
    "1: phases: is missing",
    "2: target: does not belong in a scenario: give it on the command line (--target URL)",
    "3: topology: does not belong in a scenario: give it on the command line (--topology T)",
    "4: models: must be a list, got a",
)

# -- one mistake
for phase, said in [
    ("rate: -1, duration: 1s", "rate: must be ≥ 0, got -1"),
    ("rate: .nan, duration: 1s", "rate: must be a finite number, got .nan"),
    ("rate: 2e6, duration: 1s", "rate: must be ≤ 1e+06, got 2e6"),
    ("rate: [1, 2], duration: 1s", f"rate: {RATE}, got a list"),
    ("rate: {from: 1, until: 2}, duration: 1s", f"rate.until: unknown key; known here: {SHAPES}|rate.to: is missing"),
    ("rate: {fromm: 1, to: 2}, duration: 1s", "rate.fromm: unknown key; did you mean from?"),
    ("rate: 1, duration: 1d", "duration: unknown unit 'd' in '1d': use ms, s, m or h"),
    ("rate: 1, duration: 9999h", "duration: must be at most 30 days, got '9999h'"),
    ("rate: 1, duration: 1s, offset: 1s", "offset: must be less than the phase's duration"),
    ("rate: 1, duration: 1s, burstiness: 1", "burstiness: is for arrivals: gamma only"),
    ("rate: 1, duration: 1s, requests: 4", f"requests: has no place beside rate; there go: {AT_RATE}"),
    ("rate: {from: 1, to: 9, shape: spike, at: 9s, for: 9s}, duration: 9s", "rate.for: the spike must end within the phase"),
    ("concurrency: 0, duration: 1s", "concurrency: must be ≥ 1, got 0"),
    ("concurrency: 4", "concurrency: a closed loop needs either duration or requests"),
    ("concurrency: 4, requests: 1.5", "requests: must be a whole number, got 1.5"),
    ("trace: {speed: 0}", "trace: needs a workload of kind: trace|trace.speed: must be > 0, got 0"),
    ("rounds: {sizes: 6}", "rounds.sizes: must be a list, got 6"),
    ("rounds: {sizes: [6], repeat: 0}", "rounds.repeat: must be ≥ 1, got 0"),
    ("rate: 1, duration: 1s, cancel: {share: 2}", "cancel.share: must be ≤ 1, got 2|cancel.after: is missing"),
    ("rate: 1, duration: 1s, marks: [{at: 2s, note: a}, {at: 1s, note: b}]", "marks: must be in the order of time"),
]:  # fmt: skip
    file(
        HEAD + f"phases:\n  - {{name: a, {phase}}}\n",
        *(f"4: phases[0].{one}" for one in said.split("|")),
    )
for workload, said in [
    ("{kind: ragg}", "kind: must be rag, prompts, synthetic, tasks, trace or plugin, got ragg"),
    ("{kind: rag, where: server, index: d}", "index: is for where: client only (the server has its own index)"),
    ("{kind: rag, top_k: 101}", "top_k: must be ≤ 100, got 101"),
    ("{kind: prompts, file: a.csv}", "file: must end in .jsonl, .txt or .json (ShareGPT), got a.csv"),
    ("{kind: synthetic, prompt_tokens: 9}", "output_tokens: is missing"),
    ("{kind: synthetic, prompt_tokens: 9, output_tokens: 9, turns: 5000}", "turns: must be at most 1000 (give a distribution a max)"),
    ("{kind: synthetic, prompt_tokens: 10000000, output_tokens: 9, count: 512000}", "count: about 2.86e+04 GiB of prompts for each worker to hold; lower count or the lengths"),
    ("{kind: rag, temperature: 3}", "temperature: must be ≤ 2, got 3"),
]:  # fmt: skip
    file(ALL % workload, f"2: workload.{said}")


@pytest.mark.parametrize(("text", "said"), FILES)
def test_every_mistake_is_told(
    text: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario("f.yaml")
    assert list(caught.value.lines) == said


def test_the_table_is_long() -> None:
    assert len(FILES) >= 40
    assert sum(len(said) >= 3 for _, said in FILES) >= 5


def test_files_are_told_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "name: x\nworkload: {kind: rag, questions: q.txt, index: i}\nphases:\n  - {name: a, rate: -1, duration: 1s}\n"
    Path("f.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_scenario("f.yaml")
    assert list(caught.value.lines) == [
        f"f.yaml:2: workload.questions: no such file: {tmp_path / 'q.txt'}",
        f"f.yaml:2: workload.index: no such file: {tmp_path / 'i'}",
        "f.yaml:4: phases[0].rate: must be ≥ 0, got -1",
    ]


@pytest.mark.parametrize(
    "command",
    [["scenario", "check"], ["scenario", "explain"], ["run", "--target", "http://127.0.0.1:9", "--out", "o"]],
)
def test_every_command_tells_them_all(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(HEAD + "seeed: 1\nphases:\n  - {name: a, rate: -1, duration: 1d}\n")
    monkeypatch.setattr("sys.argv", ["rvtop", *command, "f.yaml"])
    assert run_command() == 2
    assert capsys.readouterr().err.splitlines() == [
        "rvtop: f.yaml:3: seeed: unknown key; did you mean seed?",
        "rvtop: f.yaml:5: phases[0].rate: must be ≥ 0, got -1",
        "rvtop: f.yaml:5: phases[0].duration: unknown unit 'd' in '1d': use ms, s, m or h",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["f.yaml"]  # nothing was started


def test_check_takes_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(HEAD + "phases: []\n")
    monkeypatch.setattr("sys.argv", ["rvtop", "scenario", "check", "smoke", "bad.yaml", "nosuch", "ramp"])
    assert run_command() == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == ["smoke: ok (smoke, 2 phases)", "ramp: ok (ramp, 3 phases)"]
    assert said.err.splitlines()[0] == "rvtop: bad.yaml:3: phases: must not be empty"
    assert said.err.splitlines()[1].startswith("rvtop: nosuch: no such scenario")


JUNK = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1.5,
        1e300,
        float("nan"),
        "",
        "x",
        "1s",
        "{written}",
        [],
        [None],
        [[]],
        {},
        {"a": 1},
        {"kind": "rag"},
    ]
)
WHOLE: dict[str, Any] = {
    "name": "x",
    "seed": 1,
    "models": ["a", "b"],
    "workload": {
        "kind": "synthetic",
        "prompt_tokens": {"dist": "normal", "mean": 9, "std": 2},
        "output_tokens": 9,
        "turns": 2,
        "think": "1s",
    },
    "phases": [
        {"name": "a", "rate": {"from": 1, "to": 2, "shape": "step", "steps": 3}, "duration": "9s", "arrivals": "poisson"},
        {"name": "b", "rounds": {"sizes": [1, 6], "repeat": 2}},
        {"name": "c", "concurrency": 4, "requests": 9, "cancel": {"share": 0.5, "after": "1s"}},
        {"name": "d", "rate": 1, "duration": "9s", "changes": [{"at": 1, "rate": "plan"}], "marks": [{"at": 1, "note": "n"}]},
    ],
    "slo": {"ttft_ms": 9},
    "thresholds": {"error_rate": 0.5},
}  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_stands_in_a_file_it_is_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    text = copy.deepcopy(WHOLE)
    for _ in range(data.draw(st.integers(0, 4))):
        here: Any = text
        while True:
            keys = [*here, "more"] if isinstance(here, dict) else list(range(len(here)))
            key = data.draw(st.sampled_from(keys)) if keys else None
            if key is None:
                break
            inner = here.get(key) if isinstance(here, dict) else here[key]
            if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
                here = inner
                continue
            here[key] = copy.deepcopy(data.draw(JUNK))
            break
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(text), encoding="utf-8")
    lines: tuple[str, ...] = ()
    try:
        load_scenario(file)
    except ScenarioError as error:
        lines = error.lines
    assert len(set(lines)) == len(lines)
    for line in lines:
        assert re.match(rf"{re.escape(str(file))}:\d+: [\w.\[\]]+: ", line), line
