"""Probes beside the load: sent outside of its limits, in a file of their own and in none of its figures."""

from __future__ import annotations

from pathlib import Path

from rvtop.plain import result_lines
from rvtop.results.summary import summarise
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.unit.run_folder import command, jsonl, make, phase, second
from tests.unit.run_folder import request as line


async def test_they_go_beside_a_load_that_is_full_and_are_none_of_its_figures(tmp_path: Path) -> None:
    """The load may have one request in flight, which lasts as long as the phase."""
    hold = {"name": "hold", "rate": 5, "duration": "2s", "max_in_flight": 1, "drain": "200ms"}
    with any_mock(ttft_ms=20, step_ms=1000, tokens=64) as mock:
        asked = request(
            mock.url,
            tmp_path / "run",
            hold,
            workload={"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 64},
            body={"max_completion_tokens": 64, "top_p": 0.5},
            probe_rate=10.0,
        )
        watched = Watched(asked)
        outcome = await watched.end()
        served = mock.stop()
    assert outcome.summary is not None
    assert outcome.summary["requests"]["ok"] == 0
    assert outcome.summary["requests"]["planned"] == len(watched.rows())
    rows = watched.rows("probes.jsonl")
    answered = [row for row in rows if row["error"] is None]
    assert answered
    assert {(row["phase"], row["output_tokens"]) for row in answered} == {("probe", 1)}
    probes = outcome.summary["probes"]
    assert (probes["rate_rps"], probes["ok"], probes["sent"]) == (10.0, len(answered), len(rows))
    assert probes["ttft_ms"]["count"] == len(answered)
    shown = next(s.probes for s in reversed(watched.seen) if s.probes is not None)
    assert (shown.ok, shown.rate_rps) == (len(answered), 10.0)
    # No two requests in flight at the server have one id.
    ids = served.id
    assert len(set(ids)) == len(ids)
    assert sum(one.startswith("rvtop-probe-") for one in ids) == len(rows)


def test_the_summary_tells_them_phase_by_phase(tmp_path: Path) -> None:
    load = [line(number, "idle", 100.0 * number, lag=0.0, first=40.0, last=90.0) for number in range(10)]
    begun = [phase("idle", 0.0, 5.0), phase("full", 5.0, 5.0), command(10.0, "stop")]
    folder = make(tmp_path, load, begun, [second(1.0)], flags={"probe_rate": 2.0})
    slow = [
        line(n, "probe", 500.0 * n, lag=0.0, first=50.0 if n < 10 else 900.0, last=901.0) for n in range(19)
    ]
    (folder / "probes.jsonl").write_text(
        jsonl([*slow, line(19, "probe", 9500.0, lag=0.0, error="cancelled")])
    )
    result = summarise(folder)
    assert result["requests"]["ok"] == 10
    probes = result["probes"]
    assert (probes["rate_rps"], probes["sent"], probes["ok"]) == (2.0, 20, 19)
    assert [(part["name"], part["ok"], part["ttft_ms"]["p50"]) for part in probes["phases"]] == [
        ("idle", 10, 50.0),
        ("full", 9, 900.0),
    ]
    text = "\n".join(result_lines(result, "run"))
    assert "probes beside the load: 19 of 20: TTFT p50 50 p99 900 ms" in text
    assert "  full: 9 of 10: TTFT p50 900" in text


def test_a_run_without_them_has_none(tmp_path: Path) -> None:
    load = [line(0, "idle", 0.0, lag=0.0, first=40.0, last=90.0)]
    result = summarise(make(tmp_path, load, [phase("idle", 0.0, 5.0), command(6.0, "stop")]))
    assert result["probes"] is None


def test_a_file_of_them_that_is_damaged_costs_no_other_figure(tmp_path: Path) -> None:
    load = [line(0, "idle", 0.0, lag=0.0, first=40.0, last=90.0)]
    folder = make(tmp_path, load, [phase("idle", 0.0, 5.0), command(6.0, "stop")])
    (folder / "probes.jsonl").write_text("{\n")
    result = summarise(folder)
    assert (result["probes"], result["requests"]["ok"]) == (None, 1)
    assert any("probes.jsonl" in note for note in result["unread"])
