"""A sweep with fake sessions: its order, its rows, the best one, and how it goes on after it was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.errors import UserError
from rvtop.results import summary
from rvtop.session.request import Outcome, SessionRequest, find, topology_options
from rvtop.study.rows import Result
from rvtop.study.sweep import SWEEP, SweepPlan, SweepRun, combinations
from rvtop.study.sweep_rows import rows, table
from rvtop.study.turns import run_turns
from rvtop.ui.pareto_lines import pareto_lines
from tests.unit.run_folder import command, make, phase, request

VARY = ("max_num_seqs=64,256", "block_size=16,32")
SLO = {"ttft_ms": 150.0}
#: TTFT (ms) and tokens of an answer, by combination.
FIGURES = {(64, 16): (50, 4), (64, 32): (100, 8), (256, 16): (120, 2), (256, 32): (900, 20)}


def plan(**more: Any) -> SweepPlan:
    found = combinations(VARY)
    return SweepPlan("rvc", found, **{"slo": SLO, "work": "the same", "seed": 1, **more})


def sweep(folder: Path, **more: Any) -> SweepRun:
    backend = topology_options("rvc", models=(), port=0, arguments=())
    asked = SessionRequest(find("smoke").model_copy(update={"thresholds": {}}), folder, backend=backend)
    return SweepRun(asked, plan(**more))


def session(asked: SessionRequest) -> Outcome:
    """Writes the run folder of a session as its engine arguments would have it."""
    assert asked.backend is not None
    given = dict(text.split("=") for text in asked.backend.arguments if "=" in text)
    ttft, tokens = FIGURES[int(given["max_num_seqs"]), int(given["block_size"])]
    rows = [request(n, "hold", 100 * n, lag=0, first=ttft, last=ttft + 20, tokens=tokens) for n in range(10)]
    ended = command(1, "ended", kind="done", in_flight=0, text="", by_model={})
    engines = [{"devices": 2, "concurrency": 4}, {"devices": 2}]
    make(asked.out, rows, [phase("hold", 0, 1), ended], target_engines=engines, start_s=3.0)
    return Outcome(0, "", summary.write(asked.out))


def nothing(text: str) -> None:
    """Says nothing."""


def test_each_combination_runs_once_in_an_order_of_the_seed(tmp_path: Path) -> None:
    asked: list[SessionRequest] = []

    def run(one: SessionRequest) -> Outcome:
        asked.append(one)
        return session(one)

    first = sweep(tmp_path / "a", repeat=2)
    assert run_turns(first, run, nothing) == 0
    names = [one.out.name for one in asked]
    assert len(set(names)) == 8
    assert sorted(names)[0] == "01-max_num_seqs=64-block_size=16-1"
    assert [turn.folder for turn in plan(repeat=2).turns()] == names
    orders = {tuple(turn.folder for turn in plan(seed=seed).turns()) for seed in range(10)}
    assert len(orders) > 1, "another seed, another order"
    arguments = asked[0].backend.arguments if asked[0].backend is not None else ()
    assert [arguments[0], arguments[2]] == ["--engine-arg", "--engine-arg"]
    found = json.loads((tmp_path / "a" / SWEEP).read_text())
    assert [row["repeats"] for row in found["rows"]] == [2, 2, 2, 2]


def test_the_best_one_has_the_most_tokens_of_those_that_hold_the_slo(tmp_path: Path) -> None:
    run = sweep(tmp_path / "a")
    run_turns(run, session, nothing)
    by_values = {tuple(row["values"].values()): row for row in run.rows}
    assert [row["held"] for row in by_values.values()] == [True, True, True, False]
    assert [row["pareto"] for row in by_values.values()] == [True, True, False, True]
    assert [row["best"] for row in by_values.values()] == [False, True, False, False]
    best = by_values["64", "32"]
    assert best["each"] == "GPU"
    assert best["figures"]["tps"] == pytest.approx(80 / 1.02)
    assert best["figures"]["tps_each"] == pytest.approx(80 / 1.02 / 4)
    assert best["figures"]["ttft_p99_ms"] == pytest.approx(100)
    assert best["start_s"] == 3.0
    lines = table(run.rows, SLO)
    assert lines[-1] == (
        "best under the SLO (TTFT 150 ms at p99): max_num_seqs=64 block_size=32: "
        "19.61 tok/s each, TTFT p99 100 ms"
    )
    assert next(line for line in lines if line.startswith("max_num_seqs=256 block_size=32")).endswith(
        "missed front"
    )
    picture = "\n".join(line.text for line in pareto_lines(run.rows, 90, 12, 150.0))
    for mark in ("[a]", "[b]", " c ", "[d]", "┊"):
        assert mark in picture


def test_of_those_with_the_same_tokens_the_quickest_is_the_best() -> None:
    """Where what was asked for is served whole, chance alone decides who has a token more."""
    told = {"a": (1000.0, 120.0), "b": (995.0, 50.0), "c": (980.0, 20.0)}
    results = [
        Result(name, name, 0, "", {"kpm": {"tps": tps, "completed_pct": 100.0}, "ttft_ms": {"p99": ttft}})
        for name, (tps, ttft) in told.items()
    ]
    found = rows([(name, {}) for name in told], results, SLO)
    assert [row["name"] for row in found if row["best"]] == ["b"]


def test_without_an_slo_none_is_named(tmp_path: Path) -> None:
    run = sweep(tmp_path / "a", slo={})
    run_turns(run, session, nothing)
    assert not any(row["best"] for row in run.rows)
    assert table(run.rows, {})[-1].startswith("best: the scenario has no slo")
    strict = sweep(tmp_path / "b", slo={"ttft_ms": 1.0})
    run_turns(strict, session, nothing)
    assert table(strict.rows, {"ttft_ms": 1.0})[-1].startswith("best: none holds the SLO")


def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    ran: list[str] = []

    def killed_at(number: int) -> Callable[[SessionRequest], Outcome]:
        def run(one: SessionRequest) -> Outcome:
            ran.append(one.out.name)
            if len(ran) == number:
                make(one.out, [request(0, "hold", 0, lag=0, first=1, last=2)], [phase("hold", 0, 1)])
                raise RuntimeError("killed")
            return session(one)

        return run

    first = sweep(tmp_path / "a")
    with pytest.raises(RuntimeError):
        run_turns(first, killed_at(2), nothing)
    first.finish()  # as the end of its process does
    again = sweep(tmp_path / "a")
    assert (again.resumed, again.total) == (1, 3)
    assert run_turns(again, killed_at(0), nothing) == 0
    assert ran[1] == ran[2], "the one that was killed runs again"
    assert len(ran) == 5
    assert sorted(set(ran)) == sorted(turn.folder for turn in plan().turns())
    assert (tmp_path / "a" / f"{ran[1]}.cut1" / "requests.jsonl").exists(), "what was measured is kept"
    assert [row["repeats"] for row in again.rows] == [1, 1, 1, 1]
    third = sweep(tmp_path / "a")
    assert (third.resumed, third.total) == (4, 0)
    assert run_turns(third, killed_at(0), nothing) == 0
    assert third.rows == again.rows
    assert len(ran) == 5


def test_an_interrupted_session_is_run_again(tmp_path: Path) -> None:
    def interrupted(one: SessionRequest) -> Outcome:
        ended = command(1, "ended", kind="interrupted", in_flight=0, text="interrupted", by_model={})
        make(one.out, [request(0, "hold", 0, lag=0, first=1, last=2)], [phase("hold", 0, 1), ended])
        return Outcome(130, "interrupted", summary.write(one.out))

    assert run_turns(sweep(tmp_path / "a"), interrupted, nothing) == 130
    again = sweep(tmp_path / "a")
    assert (again.resumed, again.total) == (0, 4)


def test_what_does_not_start_does_not_end_the_rest(tmp_path: Path) -> None:
    def fails_at_256(one: SessionRequest) -> Outcome:
        assert one.backend is not None
        if "max_num_seqs=256" in one.backend.arguments:
            raise UserError("no memory left", 4)
        return session(one)

    run = sweep(tmp_path / "a")
    assert run_turns(run, fails_at_256, nothing) == 0
    assert [row["reasons"] for row in run.rows] == [[], [], ["no memory left"], ["no memory left"]]
    assert "no memory left" in "\n".join(table(run.rows, SLO))
    assert "--" in "\n".join(table(run.rows, SLO))
    run = sweep(tmp_path / "a")
    assert (run.resumed, run.total) == (2, 2), "what failed is tried again"


@pytest.mark.parametrize(
    ("vary", "why"),
    [
        (["max_num_seqs"], "write NAME=VALUE,VALUE"),
        (["max_num_seqs=64,"], "write NAME=VALUE,VALUE"),
        (["=1"], "write NAME=VALUE,VALUE"),
        (["a=1,2", "a=3"], "a stands twice"),
        (["a=1,1"], "a value stands twice"),
        ([f"a={','.join(map(str, range(40)))}", f"b={','.join(map(str, range(40)))}"], "1600 combinations"),
        ([], "sweep needs --vary"),
    ],
)
def test_what_can_not_be_varied_is_one_line(vary: list[str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        combinations(vary)


def test_a_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    run_turns(sweep(tmp_path / "a"), session, nothing)
    with pytest.raises(UserError, match=r"holds a sweep whose seed differ; give the same again"):
        sweep(tmp_path / "a", seed=2)
    with pytest.raises(UserError, match="holds a sweep whose scenario or its files differ"):
        sweep(tmp_path / "a", work="other")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else; give another folder"):
        sweep(tmp_path / "b")
    running = sweep(tmp_path / "c")
    with pytest.raises(UserError, match="another sweep runs there"):
        sweep(tmp_path / "c")
    running.finish()
    sweep(tmp_path / "c").finish()


def test_names_of_folders_are_harmless() -> None:
    one = combinations(["compilation_config=../../x,{'a': 1}"])
    assert next(c.stem for c in one).startswith("01-compilation_config=..-..-x")
    assert "/" not in "".join(c.stem for c in one)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--topology", "baseline", "--vary", "a=1"], "baseline: has no engine arguments; use rvc"),
        (["--topology", "nope", "--vary", "a=1"], "--topology nope: unknown"),
        (["--topology", "rvc", "--vary", "a"], "write NAME=VALUE,VALUE"),
        (["--topology", "rvc", "--vary", "a=1", "--repeat", "0"], "--repeat 0: must be 1 or more"),
        (
            ["--topology", "rvc", "--vary", "a=1", "--ui", "dashboard"],
            "--ui dashboard: must be",
        ),
        (["--topology", "rvc", "--vary", "a=1", "--backend-options", "'"], "--backend-options: "),
    ],
)
def test_the_command_refuses_before_anything_starts(tmp_path: Path, words: list[str], why: str) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["sweep", "smoke", *words, "--out", str(out)])
    assert isinstance(result.exception, UserError)
    assert why in str(result.exception)
    assert not out.exists()
