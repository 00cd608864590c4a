"""Two stored runs side by side: figures by hand, what is refused, what is censored, and the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.results import summary
from rvtop.results.compare import (
    ALL,
    CENSORED,
    NOT_SIGNIFICANT,
    SIGNIFICANT,
    TOO_FEW,
    Comparison,
    Row,
    compare,
    short_names,
)
from rvtop.results.compare_text import as_data, text_lines
from rvtop.results.fail_if import parse_goal
from rvtop.results.stored import environment_of, read_summary, side_of, stored_runs
from rvtop.stats.histogram import bucket_of
from tests.conftest import Rvtop
from tests.unit.run_folder import command, make, phase, request

SCENARIO = "name: made\nseed: 7\nworkload: {kind: synthetic, prompt_tokens: 10}\nphases:\n- {name: hold}\n"
GAP = bucket_of(100_000_000).item()
END = {"kind": "done", "in_flight": 0, "text": "", "by_model": {}}


def run(
    folder: Path,
    ttft_ms: float = 100.0,
    failed: int = 0,
    commands: list[dict[str, Any]] | None = None,
    scenario: str = SCENARIO,
    count: int = 10,
    noise_ms: float = 0.0,
    **environment: Any,
) -> Path:
    """A run of ``count`` requests in a second, their TTFTs 0 to 9 ms above ``ttft_ms``, moved up and down by
    ``noise_ms`` in turn from tenth to tenth; the first ``failed`` were refused."""
    rows = [request(0, "warm", 0, lag=0, first=5000, last=6000)]
    for n in range(count):
        at = 1000 + 1000 * n / count
        if n < failed:
            rows.append(request(n + 1, "hold", at, error="refused", error_text="no"))
        else:
            off = noise_ms * (-1) ** (10 * n // count)
            times = {"lag": 0, "first": ttft_ms + n % 10 + off, "last": 400}
            rows.append(request(n + 1, "hold", at, **times, tokens=4, itl_hist=[[GAP, 3]]))
    log = [
        phase("warm", 0, 1, warmup=True, by="scenario"),
        phase("hold", 1, 1, by="scenario"),
        *(commands or []),
        command(3, "stop", by="scenario"),
        command(3, "ended", **END),
    ]
    make(folder, rows, log, **environment)
    (folder / "scenario.yaml").write_text(scenario)
    summary.write(folder)
    return folder


def compared(a: Path, b: Path) -> Comparison:
    return compare(side_of(a, read_summary(a)), side_of(b, read_summary(b)))


def row_of(found: Comparison, key: str, part: str = ALL) -> Row:
    return next(row for row in found.parts[part] if row.figure.key == key)


def test_figures_stand_beside_each_other(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a", 100), run(tmp_path / "b", 50, topology="rac"))
    assert (found.a.label, found.b.label, found.refusal) == ("baseline", "rac", "")
    mean = row_of(found, "ttft_mean")
    assert (mean.a, mean.b, mean.difference, mean.word) == (104.5, 54.5, -50.0, TOO_FEW)
    assert mean.percent == pytest.approx(-50 / 104.5 * 100)
    assert row_of(found, "ttft_p50").difference == pytest.approx(-50)
    # 40 tokens from the first intended time (1.0 s) to the last token (2.3 s)
    assert row_of(found, "tps").a == pytest.approx(40 / 1.3)
    assert (row_of(found, "errors").a, row_of(found, "completed_pct").b) == (0, 100.0)
    assert {row.verdict for row in found.parts[ALL] if row.a is not None} == {TOO_FEW}
    assert not found.has_intervals
    # Only what both measured; a warm-up is no part of it.
    assert found.names == (ALL, "hold")
    assert row_of(found, "ttft_mean", "hold") == mean


def test_phases_of_answers_in_one_piece_are_told_by_their_latency(tmp_path: Path) -> None:
    folders = []
    for name, ms in (("a", 40), ("b", 20)):
        rows = [request(n, "hold", 1000 + 100 * n, lag=0, last=ms + n % 10) for n in range(10)]
        log = [phase("hold", 1, 1, by="scenario"), command(3, "stop", by="scenario")]
        folders.append(make(tmp_path / name, rows, [*log, command(3, "ended", **END)]))
        (tmp_path / name / "scenario.yaml").write_text(SCENARIO)
        summary.write(tmp_path / name)
    lines = text_lines(compared(*folders))
    of_phase = lines[lines.index("phase hold") + 1 :]
    assert of_phase[0].split()[:5] == ["E2E", "mean", "ms", "44.5", "24.5"]
    assert of_phase[1].split()[:3] == ["E2E", "p99", "ms"]
    assert of_phase[2] == ""  # nothing that neither side has
    with_tokens = text_lines(compared(run(tmp_path / "c"), run(tmp_path / "d")))
    at = with_tokens.index("phase hold") + 1
    assert [line.split()[0] for line in with_tokens[at : at + 3]] == ["TTFT", "TTFT", "tokens/s"]


def test_a_difference_is_significant_beyond_the_noise_of_blocks(tmp_path: Path) -> None:
    a = run(tmp_path / "a", 100, count=1000)
    found = compared(a, run(tmp_path / "b", 99, count=1000, noise_ms=0.5))
    mean = row_of(found, "ttft_mean")
    # Of ten blocks, in turn 0.5 and 1.5 ms less: half the interval is 2.262 × sqrt((0.25 × 10 / 9) / 10).
    half = 2.2622 * (0.25 / 9) ** 0.5
    assert mean.interval is not None
    assert (mean.interval.low, mean.interval.high) == pytest.approx((-1 - half, -1 + half), abs=1e-4)
    assert (mean.word, mean.verdict) == ("B lower", SIGNIFICANT)
    assert row_of(found, "ttft_p99").verdict == SIGNIFICANT
    assert (row_of(found, "e2e_mean").word, row_of(found, "e2e_mean").verdict) == ("same", NOT_SIGNIFICANT)
    assert (row_of(found, "itl_p50").word, row_of(found, "itl_mean").word) == ("same", "B higher")
    noisy = compared(a, run(tmp_path / "c", 99, count=1000, noise_ms=5))
    row = row_of(noisy, "ttft_mean")
    assert (row.word, row.verdict, row.difference) == ("same", NOT_SIGNIFICANT, pytest.approx(-1))
    higher = compare(noisy.a, noisy.b, 50)
    assert row_of(higher, "ttft_mean").interval.high < row.interval.high  # type: ignore[union-attr]


def test_gaps_in_buckets_differ_only_beyond_a_bucket(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", count=1000), run(tmp_path / "b", count=1000)
    moved = (b / "requests.jsonl").read_text().replace(f"[[{GAP}, 3]]", f"[[{GAP + 1}, 3]]")
    (b / "requests.jsonl").write_text(moved)
    summary.write(b)
    row = row_of(compared(a, b), "itl_p99")
    assert row.percent == pytest.approx(2.0)
    assert row.verdict == NOT_SIGNIFICANT


def test_other_work_is_no_pair(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", count=1000), run(tmp_path / "b", 99, count=1000, prompts_digest="1" * 64)
    found = compared(a, b)
    assert not found.paired
    assert row_of(found, "ttft_mean").verdict == SIGNIFICANT
    assert any("(unpaired)" in line for line in text_lines(found))


def test_a_summary_of_before_has_no_interval(tmp_path: Path, rvtop_here: Rvtop) -> None:
    a, b = run(tmp_path / "a", count=1000), run(tmp_path / "b", 50, count=1000)
    data = json.loads((b / "summary.json").read_text())
    del data["blocks"]
    (b / "summary.json").write_text(json.dumps(data))
    found = compared(a, b)
    row = row_of(found, "ttft_mean")
    assert (row.word, row.verdict, row.interval) == ("B lower", "", None)
    assert f"no interval: {b} has no blocks; rvtop report {b} makes them" in text_lines(found)
    assert "B lower, significant" in rvtop_here("compare", a, b)[1], "the command sums it up again"


def test_a_run_with_itself_is_the_same(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", count=1000)
    found = compared(folder, folder)
    assert not found.refusal
    assert not found.notes
    assert {row.word for row in found.parts[ALL] if row.a is not None} == {"same"}
    assert found.a.ttft.count == 1000


def test_what_lost_more_is_censored(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a"), run(tmp_path / "b", 50, failed=2))
    for key in ("ttft_mean", "ttft_p99", "itl_p50", "e2e_mean", "tps"):
        row = row_of(found, key)
        assert (row.word, row.difference, row.percent) == (CENSORED, None, None)
        assert (row.a, row.b) != (None, None), "the figures themselves stay"
    errors, completed = row_of(found, "errors"), row_of(found, "completed_pct")
    assert (errors.a, errors.b, errors.difference, errors.word) == (0, 2, 2, TOO_FEW)
    assert (completed.difference, completed.percent, completed.word) == (-20.0, None, TOO_FEW)
    assert found.notes[0].startswith("CENSORED: completion differs by over a point")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"prompts_digest": "1" * 64}, "prompts 000000000000 → 111111111111"),
        ({"scenario": SCENARIO.replace("seed: 7", "seed: 8")}, "seed 7 → 8"),
        (
            {"scenario": SCENARIO.replace("10}", "20}")},
            "workload {kind: synthetic, prompt_tokens: 10} → {kind: synthetic, prompt_tokens: 20}",
        ),
        (
            {"commands": [command(1.5, "rate", value=9.0, by="keyboard")]},
            "B was driven by hand (1 command)",
        ),
        ({"flags": {"find_max": {"slo": {}}}}, "B was a search for the highest rate"),
        ({"commands": [phase("more", 2, 1, by="scenario")]}, "phase more none → rate 2, duration 1"),
    ],
)
def test_different_work_is_told(tmp_path: Path, other: dict[str, Any], why: str) -> None:
    found = compared(run(tmp_path / "a"), run(tmp_path / "b", **other))
    assert found.refusal.startswith("work differs: ")
    assert why in found.refused


def test_what_is_no_work_may_differ(tmp_path: Path) -> None:
    commands = [command(1.2, "mark", note="x", by="keyboard"), command(1.2, "slo", ttft_ms=5, by="keyboard")]
    scenario = (
        SCENARIO.replace("name: made", "name: other") + "slo: {ttft_ms: 5}\nthresholds: {error_rate: 0}\n"
    )
    b = run(tmp_path / "b", commands=commands, scenario=scenario, slo={"ttft_ms": 5}, models=["c"])
    found = compared(run(tmp_path / "a"), b)
    assert found.refusal == ""
    assert (
        "goodput is not compared: SLO ttft 150 ms, tpot 20 ms → ttft 5 ms; from 1.2 s: ttft 5 ms"
        in found.notes
    )
    assert row_of(found, "goodput_rps").word == ""
    assert "differs: models a, b → c, a" in found.notes


def test_what_else_differs_is_told(tmp_path: Path) -> None:
    flags = {"backend": {"arguments": ["--engine-arg", "x=" + "1" * 70, "--engine-arg", "max_num_seqs=64"]}}
    a = run(tmp_path / "a", versions={"vllm": "0.29.0", "ray": "2.60.0"}, python="3.12.1", flags=flags)
    more = {"backend": {"arguments": [*flags["backend"]["arguments"][:-1], "max_num_seqs=256"]}}
    b = run(tmp_path / "b", versions={"vllm": "0.32.0", "ray": "2.60.0"}, python="3.12.1", flags=more)
    notes = compared(a, b).notes
    assert "differs: vllm 0.29.0 → 0.32.0" in notes
    assert any(note.startswith("differs: arguments ") and "max_num_seqs=256" in note for note in notes)
    assert not any(note.startswith(("differs: ray", "differs: python", "differs: GPUs")) for note in notes)
    data = json.loads((b / "summary.json").read_text())
    data["server"]["gpus"] = [{"name": "H200"}, {"name": "H200"}]
    (b / "summary.json").write_text(json.dumps(data))
    assert "differs: GPUs none → 2 × H200" in compared(a, b).notes


def test_a_run_that_ended_early_is_no_baseline(tmp_path: Path) -> None:
    folder = run(tmp_path / "b")
    lines = (folder / "commands.jsonl").read_text().splitlines()
    last = json.dumps({**json.loads(lines[-1]), "kind": "interrupted", "text": "interrupted"})
    (folder / "commands.jsonl").write_text("\n".join([*lines[:-1], last]) + "\n")
    summary.write(folder)
    assert compared(run(tmp_path / "a"), folder).refused == ("B was interrupted",)


def test_gaps_between_chunks_are_not_compared_with_those_between_tokens(tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    text = (b / "requests.jsonl").read_text().replace('"usage"', '"chunks"')
    (b / "requests.jsonl").write_text(text)
    summary.write(b)
    found = compared(run(tmp_path / "a"), b)
    assert "ITL is not compared: chunks of one of the two are not tokens" in found.notes
    assert row_of(found, "itl_mean").word == ""


def test_lines_and_json_say_the_same(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a", count=1000), run(tmp_path / "b", 50, count=1000, noise_ms=1))
    lines = text_lines(found)
    line = next(line for line in lines if line.lstrip().startswith("TTFT mean"))
    assert line.split()[:8] == ["TTFT", "mean", "ms", "104.5", "54.5", "-50", "-47.8", "%"]
    assert line.split()[8:] == ["-50.75..-49.25", "B", "lower,", "significant"]
    assert any(line.startswith("95 % intervals from 10 blocks of each run") for line in lines)
    data = as_data(found)
    assert data["figures"]["ttft_mean"]["difference"] == -50.0
    assert data["phases"][0]["name"] == "hold"
    assert (data["level_pct"], data["paired"]) == (95.0, True)
    told = data["figures"]["ttft_mean"]
    assert (told["verdict"], round(told["interval"]["low"], 2)) == (SIGNIFICANT, -50.75)


def test_missing_figures_are_dashes(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a", failed=10), run(tmp_path / "b", failed=10))
    row = row_of(found, "ttft_mean")
    assert (row.a, row.b, row.difference) == (None, None, None)
    line = next(line for line in text_lines(found) if "TTFT mean" in line)
    assert line.split()[3:] == ["--", "--", "--", "--", "--"]


@pytest.mark.parametrize(
    ("goal", "missed"),
    [
        ("ttft_p99 > 5%", ""),
        ("ttft_p99 < -10 %", "TTFT p99 is -"),
        ("ttft_p99_ms > +10%", ""),
        ("ttft_mean > 50", "TTFT mean is +54.5 ms"),
        ("errors > 0", ""),
        ("errors > 0%", "its change can't be told: it is 0 in the reference"),
    ],
)
def test_goals(tmp_path: Path, goal: str, missed: str) -> None:
    found = compared(run(tmp_path / "a", count=1000), run(tmp_path / "b", 50, count=1000))
    said = parse_goal(goal).missed(found)
    assert (missed in said) if missed else said == ""


def test_a_change_that_is_not_significant_counts_only_when_asked_for(tmp_path: Path) -> None:
    noisy = run(tmp_path / "b", 125, count=1000, noise_ms=60)
    found = compared(run(tmp_path / "a", count=1000), noisy)
    assert row_of(found, "ttft_mean").verdict == NOT_SIGNIFICANT
    goal = parse_goal("ttft_mean > +10%")
    assert goal.missed(found) == ""
    assert goal.spared(found).endswith(
        "is +23.92 %: not significant, so it is not missed; with ! it would be"
    )
    always = parse_goal("ttft_mean > +10% !")
    assert "is +23.92 %" in always.missed(found)
    assert always.spared(found) == ""
    few = compared(run(tmp_path / "c"), run(tmp_path / "d", 200))
    assert "too few data, so it is not missed" in goal.spared(few)
    assert "TTFT mean is" in parse_goal("ttft_mean > 50").missed(few), "its own figure is measured"


def test_a_censored_change_is_a_missed_goal(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a"), run(tmp_path / "b", failed=5))
    assert "can't be told: CENSORED" in parse_goal("ttft_p99 > 5%").missed(found)


@pytest.mark.parametrize(
    "text", ["", "ttft_p99", "ttft_p99 >= 5", "speed > 1", "completed_pct < 5%", "errors > 0!"]
)
def test_goals_that_can_not_be_are_one_line(text: str) -> None:
    with pytest.raises(UserError, match="--fail-if"):
        parse_goal(text)


def test_stored_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old")):
        run(tmp_path / name, topology=None)
        os.utime(tmp_path / name / "summary.json", (1e9 - age, 1e9 - age))
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "summary.json").write_text("{")
    rows = stored_runs(tmp_path)
    assert [Path(row.folder).name for row in rows] == ["new", "old"]
    assert (rows[0].name, rows[0].label, rows[0].end) == ("made", "http://127.0.0.1:8000", "done")
    assert rows[0].ttft_p99_ms == pytest.approx(108.91)


def test_a_summary_of_somebody_elses_can_not_hurt(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    data = json.loads((folder / "summary.json").read_text())
    data |= {"topology": "\x1b[2Jx", "ttft_ms": 7, "phases": 3, "requests": {"errors": []}, "models": None}
    data |= {"ttft_histogram": {"buckets": [[5, 1], [2, 1]], "sum_ns": 1, "min_ns": 1, "max_ns": 1}}
    (folder / "summary.json").write_text(json.dumps(data))
    (folder / "environment.json").write_text("[]")
    (folder / "commands.jsonl").write_text("{\n[]\n")
    side = side_of(folder, read_summary(folder))
    assert side.label == "\\x1b[2Jx"
    assert side.figures["ttft_mean"] is None
    assert side.ttft.count == 0


# -- the command -----------------------------------------------------------------------------------


def test_the_command_compares_refuses_and_judges(tmp_path: Path, rvtop_here: Rvtop) -> None:
    a, b = run(tmp_path / "a", count=1000), run(tmp_path / "b", 50, count=1000)
    code, out, error = rvtop_here("compare", a, b)
    assert (code, error) == (0, "")
    assert "B lower, significant" in out
    (b / "summary.json").unlink()  # as a run that was killed leaves it
    code, out, error = rvtop_here("compare", a, b, a, "--json")
    assert (code, error) == (0, "")
    data = json.loads(out)
    assert data["reference"] == str(a)
    assert [one["b"]["folder"] for one in data["comparisons"]] == [str(b), str(a)]
    assert not (b / "summary.json").exists()
    goals = ("--fail-if", "ttft_p50 < -10%", "--fail-if", "errors > 3")
    code, out, error = rvtop_here("compare", a, b, "--json", *goals)
    assert code == 1
    assert error.startswith("rvtop: --fail-if ttft_p50 < -10%: ")
    assert [goal["missed"] for goal in json.loads(out)["fail_if"]] == [True, False]
    assert rvtop_here("compare", a, b, "--level", "100")[2] == (
        "rvtop: --level 100: give 50 or more and less than 100, as 95\n"
    )
    other = run(tmp_path / "other", count=1000, prompts_digest="1" * 64)
    code, out, error = rvtop_here("compare", a, other)
    assert (code, out) == (2, "")
    assert "work differs: prompts" in error
    assert "--force" in error
    code, out, error = rvtop_here("compare", a, other, "--force")
    assert (code, error) == (0, "")
    assert "work differs: prompts" in out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("runs/a",), "two run folders or more"),
        (("/nowhere/x", "/nowhere/y"), "holds no run"),
        (("/etc/hostname", "/nowhere"), "not a folder"),
    ],
)
def test_bad_folders_are_one_line(words: tuple[str, ...], why: str, rvtop_here: Rvtop) -> None:
    code, out, error = rvtop_here("compare", *words)
    assert (code, out) == (2, "")
    assert why in error
    assert error.count("\n") == 1


def test_a_client_that_bent_its_figures_is_told_of_each_side(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    data = json.loads((folder / "summary.json").read_text())
    data |= {"client_limited": True, "client": {"limited_by": "sends are late by 9 ms"}}
    (folder / "summary.json").write_text(json.dumps(data))
    doubt = "is CLIENT-LIMITED: sends are late by 9 ms"
    assert compared(folder, folder).notes == (f"A {doubt}", f"B {doubt}")


def test_two_runs_on_one_server_are_called_by_their_folders(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", topology="rac")
    assert short_names(compared(a, b).a, compared(a, b).b) == ("baseline", "rac")
    b = run(tmp_path / "c")
    assert short_names(compared(a, b).a, compared(a, b).b) == ("a", "c")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"a": ' + "[" * 1000 + "]" * 1000 + "}", "{" * 5000], ids=range(5)
)
def test_an_environment_that_can_not_be_read_is_empty(text: str, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(text)
    assert environment_of(tmp_path) == {}


def test_a_summary_as_deep_as_no_run_writes_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"kpm":' * 1000 + "{}" + "}" * 1000)
    with pytest.raises(UserError, match=r"summary\.json: not JSON"):
        read_summary(tmp_path)
