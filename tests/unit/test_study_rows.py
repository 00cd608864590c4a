"""A showdown's table: worked out again from the requests, its intervals, the paper's figures beside it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from rvtop.results import summary
from rvtop.results.compare import NOT_SIGNIFICANT, SIGNIFICANT, TOO_FEW
from rvtop.session.request import Outcome, SessionRequest, find
from rvtop.stats.histogram import bucket_of
from rvtop.study.changes import Measured, change, paper, paper_change
from rvtop.study.entries import entries
from rvtop.study.rows import table
from rvtop.study.showdown import Plan, ShowdownRun
from rvtop.study.turns import run_turns
from tests import recompute
from tests.unit.run_folder import command, make, phase, request

ROUNDS = ("paper/n=4#1", "paper/n=4#2", "paper/n=4#3", "paper/n=24#1", "paper/n=24#2")


def session(folder: Path, slower: float, lost: int, seed: int) -> Outcome:
    """A run with a warm-up, a steady phase and rounds; ``lost`` of the steady requests failed."""
    noise = random.Random(seed)
    rows: list[dict[str, Any]] = [request(0, "warm", 0, lag=0, first=9000, last=9100)]
    log = [phase("warm", 0, 1, warmup=True), phase("hold", 1, 5)]

    def add(where: str, at: float, failed: bool = False) -> None:
        if failed:
            rows.append(request(len(rows), where, at, lag=0, error="http_429"))
            return
        first = slower * noise.gammavariate(4, 10)
        last = first + noise.uniform(20, 60)
        gaps = [[bucket_of(noise.randint(5, 30) * 1_000_000).item(), noise.randint(1, 3)]]
        times = {"lag": 0.1, "first": first, "last": last}
        rows.append(request(len(rows), where, at, **times, tokens=noise.randint(1, 9), itl_hist=gaps))

    for n in range(200):
        add("hold", 1000 + 25 * n, n % 40 < lost)
    at_s = 7.0
    for name in ROUNDS:
        size = int(name.partition("=")[2].partition("#")[0])
        log.append(phase(name, at_s, None, burst=size))
        for _ in range(size):
            add(name, 1000 * at_s)
        at_s += 2
    log += [command(at_s, "stop"), command(at_s, "ended", kind="done", in_flight=0, text="", by_model={})]
    make(folder, rows, log)
    return Outcome(0, "", summary.write(folder))


def showdown(folder: Path, repeat: int) -> dict[str, Any]:
    """RAC; RVC three times as fast; a baseline that loses requests."""
    kinds = {"rac": (1.0, 0), "rvc": (0.3, 0), "rvc-noprefix": (1.0, 0), "baseline": (1.0, 2)}

    def run(asked: SessionRequest) -> Outcome:
        name = asked.out.name.rstrip("-0123456789")
        return session(asked.out, *kinds[name], seed=sum(map(ord, asked.out.name)))

    request = SessionRequest(scenario=find("smoke"), out=folder)
    plan = Plan(entries(("baseline", "rac", "rvc")), repeat, "rac")
    run_of = ShowdownRun(request, plan, {"XDG_STATE_HOME": str(folder / "state")})
    assert run_turns(run_of, run, lambda text: None) == 0
    found: dict[str, Any] = json.loads((folder / "showdown.json").read_text())
    return found


@pytest.mark.parametrize("repeat", [1, 3])
def test_the_table_is_what_the_requests_say(tmp_path: Path, repeat: int) -> None:
    found = showdown(tmp_path, repeat)
    folders = {row["name"]: [tmp_path / folder for folder in row["folders"]] for row in found["rows"]}
    assert recompute.differences(tmp_path) == []
    again = recompute.table(folders, found["reference"])
    for row in found["rows"]:
        own = again[row["name"]]
        assert row["kpm"] == pytest.approx(own["kpm"], rel=1e-12)
        assert {one["name"]: one["count"] for one in row["phases"]} == {
            "hold": repeat,
            "paper/n=4": 3 * repeat,
            "paper/n=24": 2 * repeat,
        }
        for one in row["phases"]:
            assert one["kpm"] == pytest.approx(own["phases"][one["name"]], rel=1e-12)
        if row["name"] == "rac":
            continue
        assert row["censored"] == (own["change_pct"] is None) == (row["name"] == "baseline")
        assert row["change_pct"] == pytest.approx(own["change_pct"] or {}, rel=1e-9, abs=1e-9)
        for one in row["phases"]:
            assert one["change_pct"] == pytest.approx(
                own["phase_changes"][one["name"]] or {}, rel=1e-9, abs=1e-9
            )
        for folder in folders[row["name"]]:
            told = json.loads((folder / "summary.json").read_text())
            rows = [r for runs in recompute.measured(folder).values() for one in runs for r in one]
            for q in (50, 99):
                assert told["itl_ms"][f"p{q}"] == pytest.approx(recompute.itl_ms(rows, q), rel=0.01)


def test_changes_have_intervals_and_the_paper_stands_beside(tmp_path: Path) -> None:
    found = showdown(tmp_path, 3)
    rows = {row["name"]: row for row in found["rows"]}
    low, high = rows["rvc"]["interval_pct"]["ttft_ms"]
    assert low < rows["rvc"]["change_pct"]["ttft_ms"] < high < 0
    assert rows["rvc"]["verdict"]["ttft_ms"] == SIGNIFICANT
    assert rows["rvc-noprefix"]["verdict"]["ttft_ms"] == NOT_SIGNIFICANT
    assert rows["rac"]["verdict"] == rows["baseline"]["verdict"] == {}
    assert rows["rvc"]["paper_change_pct"]["tps"] == 171.18
    assert rows["rac"]["paper_change_pct"] is None
    assert found["paper"] == paper()
    text = "\n".join(table(found["rows"], "rac"))
    for part in ("significant", "not significant", "CENSORED", "-88.5 %", "+171.2 %", "phase paper/n=24"):
        assert part in text
    assert "95 % intervals of the changes: from the repeats" in text
    assert "paper: the Ray–vLLM experiment" in text


def test_one_run_each_has_intervals_from_its_blocks(tmp_path: Path) -> None:
    found = showdown(tmp_path, 1)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["rvc"]["verdict"]["latency_total_s"] == TOO_FEW
    phases = {one["name"]: one for one in rows["rvc"]["phases"]}
    assert phases["hold"]["verdict"]["ttft_ms"] == SIGNIFICANT
    assert phases["paper/n=4"]["verdict"]["ttft_ms"] == SIGNIFICANT, "three rounds are repeats"
    assert phases["paper/n=24"]["verdict"]["ttft_ms"] == TOO_FEW, "two are not"
    assert "from blocks and rounds of each run" in "\n".join(table(found["rows"], "rac"))


def test_an_interval_by_hand() -> None:
    def measured(*ttft: float) -> Measured:
        figures = {"latency_avg_ms": None, "latency_total_s": None, "tps": None, "completed_pct": 100.0}
        return Measured([{"ttft_ms": value, **figures} for value in ttft])

    told = change(measured(90, 100, 110), measured(190, 200, 210))
    # Both variances are 100/3, so there are 4 degrees of freedom: 2.776 × sqrt(200/3) = 22.67 ms of 200.
    assert told["change_pct"]["ttft_ms"] == pytest.approx(-50)
    assert told["interval_pct"]["ttft_ms"] == pytest.approx([-61.33, -38.67], abs=0.01)
    assert told["verdict"]["ttft_ms"] == SIGNIFICANT
    assert told["change_pct"]["tps"] is None
    assert change(measured(90, 110), measured(190, 210))["verdict"]["ttft_ms"] == TOO_FEW


def test_the_paper_speaks_of_rvc_against_rac_alone() -> None:
    assert paper_change("rvc-noprefix", "rac") is not None
    assert paper_change("rvc", "baseline") is None
    assert paper_change("rsc", "rac") is None
