"""A showdown with fake sessions: order, failure, interruption, censoring, table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvtop.cli.showdown import SameForAll, compare, prepared
from rvtop.errors import UserError
from rvtop.session.request import Outcome, SessionRequest, find
from rvtop.study.entries import entries, turns
from rvtop.study.rows import table
from rvtop.study.showdown import SHOWDOWN, Plan, ShowdownRun
from rvtop.study.turns import run_turns


def done(ttft: float, completed: float = 100.0, digest: str = "d") -> Outcome:
    kpm = {"ttft_ms": ttft, "latency_avg_ms": 10.0, "latency_total_s": 1.0, "tps": 5.0}
    return Outcome(0, "", {"kpm": {**kpm, "completed_pct": completed}, "prompts_digest": digest})


def showdown(
    folder: Path, answers: dict[str, Callable[[], Outcome]], repeat: int | None = 1
) -> tuple[int, dict[str, Any], list[SessionRequest]]:
    asked: list[SessionRequest] = []

    def run(request: SessionRequest) -> Outcome:
        asked.append(request)
        return answers[request.out.name.rstrip("-0123456789")]()

    request = SessionRequest(scenario=find("smoke"), out=folder)
    plan = Plan(entries(tuple(answers)), repeat, "rac")
    code = run_turns(ShowdownRun(request, plan, {"XDG_STATE_HOME": str(folder / "state")}), run, nothing)
    return code, json.loads((folder / "showdown.json").read_text()), asked


def nothing(text: str) -> None:
    """Says nothing."""


def fails(error: BaseException) -> Outcome:
    raise error


def test_rvc_stands_twice_and_knobs_are_equal() -> None:
    baseline, without, cached = entries(("baseline", "rvc"))
    assert [baseline.name, without.name, cached.name] == ["baseline", "rvc-noprefix", "rvc"]
    assert baseline.arguments == ("--max-queue", "unlimited", "--engine-concurrency", "1")
    assert "--engine-concurrency" not in cached.arguments
    assert "enable_prefix_caching=false" in without.arguments
    assert "enable_prefix_caching=true" in cached.arguments
    with pytest.raises(UserError, match="rac stands twice"):
        entries(("rac", "rac"))


def test_every_second_repeat_is_in_the_other_order() -> None:
    order = [turn.folder for turn in turns(entries(("baseline", "rac")), 3)]
    assert order == ["baseline-1", "rac-1", "rac-2", "baseline-2", "baseline-3", "rac-3"]


def test_changes_are_against_the_reference_and_a_failure_does_not_end_the_rest(tmp_path: Path) -> None:
    code, found, asked = showdown(
        tmp_path,
        {
            "rac": lambda: done(200),
            "rsc": lambda: fails(UserError("ray is not installed")),
            "baseline": lambda: done(50),
        },
    )
    rac, rsc, baseline = found["rows"]
    assert code == 0
    assert [request.out.name for request in asked] == ["rac", "rsc", "baseline"]
    assert baseline["change_pct"]["ttft_ms"] == -75.0
    assert rac["change_pct"] == {}
    assert rsc["reasons"] == ["ray is not installed"]
    assert rsc["kpm"]["ttft_ms"] is None
    text = "\n".join(table(found["rows"], "rac"))
    assert "-75.0 %" in text
    assert "ray is not installed" in text
    assert "--" in text


def test_a_mean_over_survivors_is_censored(tmp_path: Path) -> None:
    _, found, _ = showdown(tmp_path, {"rac": lambda: done(200), "baseline": lambda: done(50, completed=98.9)})
    assert found["rows"][1]["censored"] is True
    assert found["rows"][1]["change_pct"] == {}
    assert "CENSORED" in "\n".join(table(found["rows"], "rac"))
    _, found, _ = showdown(tmp_path, {"rac": lambda: done(200), "baseline": lambda: done(50, completed=99)})
    assert found["rows"][1]["censored"] is False


def test_an_interruption_keeps_what_is_done(tmp_path: Path) -> None:
    code, found, asked = showdown(
        tmp_path,
        {"rac": lambda: done(200), "rsc": lambda: Outcome(130), "baseline": lambda: done(1)},
    )
    assert code == 130
    assert len(asked) == 2
    assert [row["repeats"] for row in found["rows"]] == [1, 0]


def test_an_interruption_of_a_run_that_lost_its_server_ends_it_all_too(tmp_path: Path) -> None:
    lost = Outcome(3, "the server is gone", interrupted=True)
    code, _, asked = showdown(tmp_path, {"rac": lambda: lost, "rsc": lambda: done(9)})
    assert code == 130
    assert len(asked) == 1


def test_other_prompts_do_not_count(tmp_path: Path) -> None:
    code, found, _ = showdown(tmp_path, {"rac": lambda: done(200), "rsc": lambda: done(9, digest="other")})
    assert code == 5
    assert found["rows"][1]["repeats"] == 0
    assert "digests differ" in found["rows"][1]["reasons"][0]


def test_nothing_started_is_4_and_a_missed_threshold_is_1(tmp_path: Path) -> None:
    assert showdown(tmp_path, {"rac": lambda: Outcome(4, "no GPU")})[0] == 4
    missed = Outcome(1, "missed", done(3).summary)
    assert showdown(tmp_path, {"rac": lambda: missed, "rsc": lambda: Outcome(4, "no GPU")})[0] == 1


def test_repeats_show_mean_and_range(tmp_path: Path) -> None:
    values = iter((10.0, 30.0))
    _, found, _ = showdown(tmp_path, {"rac": lambda: done(next(values))}, repeat=2)
    (row,) = found["rows"]
    assert row["kpm"]["ttft_ms"] == 20.0
    assert row["range"]["ttft_ms"] == [10.0, 30.0]
    assert "10..30" in "\n".join(table(found["rows"], "rac"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"names": ["nope"]}, "--topologies: 'nope' is unknown"),
        ({"names": ["rac"], "reference": "rvc"}, "--reference rvc: is not among what runs: rac"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_starts(
    tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(UserError, match=text):
        compare("smoke", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_all_are_started_with_the_same_knobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvtop.target.preflight.check_backend", lambda options, scenario=None: ("a", "b"))
    monkeypatch.setattr("rvtop.load.fleet.workers.cores", lambda: 8)
    same = SameForAll(dtype="float32", num_replicas=2, ray_address="auto")
    run = prepared("paper-rounds", ["baseline", "rac", "rvc"], tmp_path, None, 2, same)
    assert run.reference == "rac", "unless told otherwise"
    assert run.request.scenario is not None
    assert run.request.scenario.workload.ignore_eos
    on_ray = {"--ray-address": "auto", "--num-replicas": "2"}
    for turn in run.turns():
        backend = run.begin(turn).backend
        assert backend is not None
        given = dict(zip(backend.arguments[::2], backend.arguments[1::2], strict=True))
        assert (given["--threads"], given["--dtype"], given["--max-queue"]) == ("1", "float32", "unlimited")
        assert (given.items() >= on_ray.items()) == (backend.topology != "baseline")
        run.end(turn, done(1))
    assert run.total == 8


def test_the_time_left_is_that_of_those_that_have_ended(tmp_path: Path) -> None:
    now = [100.0]
    request = SessionRequest(scenario=find("smoke"), out=tmp_path)
    plan = Plan(entries(("rac", "rsc", "baseline")), 1, "rac")
    run = ShowdownRun(request, plan, {"XDG_STATE_HOME": str(tmp_path)}, clock=lambda: now[0])
    first, second, third = run.turns()
    run.begin(first)
    now[0] += 40
    assert run.picture().left_s is None, "nothing has ended yet"
    run.end(first, done(1))
    assert run.picture().left_s == 80.0
    run.begin(second)
    now[0] += 10
    picture = run.picture()
    assert (picture.turn, picture.turns, picture.elapsed_s, picture.left_s) == (2, 3, 50.0, 70.0)
    run.end(second, done(1))
    run.begin(third)
    run.end(third, done(1))
    run.finish()
    now[0] += 1000
    assert (run.picture().over, run.picture().elapsed_s, run.picture().left_s) == (True, 50.0, None)


def test_without_end_it_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    left = iter([done(200)] * 5)

    def next_one() -> Outcome:
        return next(left, Outcome(130))

    code, found, asked = showdown(tmp_path, {"rac": next_one, "rsc": next_one}, repeat=None)
    assert code == 130
    assert [request.out.name for request in asked] == ["rac-1", "rsc-1", "rsc-2", "rac-2", "rac-3", "rsc-3"]
    assert [row["repeats"] for row in found["rows"]] == [3, 2]


def test_a_row_says_how_long_its_topology_took_to_start(tmp_path: Path) -> None:
    for name, start_s in (("rac-1", 10.0), ("rac-2", 20.0)):
        (tmp_path / name).mkdir()
        told = {"target_engines": [{"threads": 2}], "start_s": start_s}
        (tmp_path / name / "environment.json").write_text(json.dumps(told))
    _, found, _ = showdown(tmp_path, {"rac": lambda: done(200)}, repeat=2)
    assert found["rows"][0]["start_s"] == 15.0
    assert found["knobs"]["rac"]["threads"] == 2
    head, first, *_ = table(found["rows"], "rac", ["dtype: x (rac)"])
    assert head.endswith("start s")
    assert first.endswith(" 15")
    assert table(found["rows"], "rac", ["dtype: x (rac)"])[-1] == "differs: dtype: x (rac)"


def test_a_folder_that_holds_a_showdown_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / SHOWDOWN).write_text("{}")
    with pytest.raises(UserError, match="holds a showdown already; give another folder"):
        prepared("smoke", ["baseline"], tmp_path, None, 1, SameForAll())
    assert (tmp_path / SHOWDOWN).read_text() == "{}"


def test_an_interrupt_before_a_start_ends_it_all(tmp_path: Path) -> None:
    asked = []

    def interrupted(request: SessionRequest) -> Outcome:
        asked.append(request.out.name)
        raise UserError("interrupted before the load began", 130)

    run = prepared("smoke", ["baseline", "rac"], tmp_path, None, 1, SameForAll())
    assert run_turns(run, interrupted, lambda text: None) == 130
    assert asked == ["baseline"]


def test_an_interrupt_while_models_are_counted_ends_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise UserError("interrupted before the load began", 130)

    monkeypatch.setattr("rvtop.target.preflight.check_backend", interrupted)
    with pytest.raises(UserError, match="interrupted"):
        prepared("smoke", ["baseline"], tmp_path, None, 1, SameForAll())


def test_unless_told_otherwise_it_is_the_experiments_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rvtop.target.preflight.check_backend", lambda options, scenario=None: ("tiny",))
    run = prepared("smoke", None, tmp_path / "out", None, 1, SameForAll())
    assert [turn.entry.name for turn in run.turns()] == ["baseline", "rac", "rsc", "rvc-noprefix", "rvc"]
