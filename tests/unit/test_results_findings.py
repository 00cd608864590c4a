"""Verdicts among the findings of a run, and how its last lines and the end card tell of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rvtop.plain import figures_line, result_lines
from rvtop.results.end_facts import end_facts
from rvtop.results.summary import summarise, write
from rvtop.ui.end_lines import card_lines
from rvtop.ui.theme import DARK, Styles
from tests.ui import made
from tests.unit.run_folder import command, make, phase, request, second


def said(name: str, running: float) -> dict[str, Any]:
    figures = {"running": running, "places": 4.0}
    text = f"batch {running:g}/4 · wait 9 · KV 2 %"
    return {"name": name, "text": text, "why": "all places are taken", "figures": figures, "knob": "more 4→8"}


def run(folder: Path, *verdicts: dict[str, Any] | None) -> Path:
    rows = [second(float(t), phase="hold", verdict=verdict) for t, verdict in enumerate(verdicts)]
    commands = [phase("hold", 0.0, 30.0), command(30.0, "stop"), command(30.0, "ended", kind="done")]
    return make(folder, [request(0, "hold", 100, lag=0, first=20, last=40)], commands, rows)


def test_what_bound_the_run_is_a_finding_the_longest_first(tmp_path: Path) -> None:
    rows = [
        None,
        {"name": "nothing"},
        *[said("client", 1.0)] * 6,
        *[said("batch", 3.0), said("batch", 4.0)] * 4,
    ]
    found = summarise(run(tmp_path / "run", *rows, *[said("router", 1.0)] * 4))["findings"]
    assert [one["name"] for one in found] == ["batch", "client"]  # four seconds are none
    assert found[0] == {
        "kind": "verdict",
        "name": "batch",
        "text": "bound by batch for 8 s: batch 4/4 · wait 9 · KV 2 %; all places are taken",
        "since_s": 8.0,
        "figures": {"seconds": 8, "running": 3.5, "places": 4.0},
        "knob": "more 4→8",
    }


def test_the_last_lines_and_the_end_card_tell_of_it(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *[said("batch", 4.0)] * 8)
    line = "bound by batch for 8 s: batch 4/4 · wait 9 · KV 2 %; all places are taken; more 4→8"
    assert f"verdict: {line}" in result_lines(write(folder), str(folder))
    facts = end_facts(folder, tmp_path)
    assert facts.why == (line,)
    card = [drawn.text for drawn in card_lines(made.done(), facts, (), 0, Styles(DARK), 120)]
    assert f"why       {line}" in [text.rstrip() for text in card]


def test_a_plain_line_names_what_binds() -> None:
    assert "bound by batch" in figures_line(made.bound())
    assert "bound by" not in figures_line(made.live())
