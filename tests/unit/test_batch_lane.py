"""Figures of a way: how full the batch was, what stood empty, how long it takes; by a given clock."""

from __future__ import annotations

from typing import Any

import pytest

from backends.batch.meter import Meter
from rvtop.batch.lane import Lane, Strip
from rvtop.batch.lines import Narrator, clock, table

ROW = {"prompt_tokens": 5, "token_ids": [1, 2, 3]}


def occupied(busy: float, span: float = 1.0, steps: int = 10, slots: int = 4) -> dict[str, Any]:
    return {"span_s": span, "busy_s": busy, "steps": steps, "step_s": span if steps else 0, "slots": slots}


def test_a_place_is_a_bubble_only_while_a_row_is_left_for_it() -> None:
    lane = Lane("map-batches", total=10)
    lane.begin(100.0)
    lane.occupied(occupied(0, steps=0), 104.0)  # it loads
    assert lane.occupied_share is None
    lane.occupied(occupied(4), 105.0)  # full
    lane.occupied(occupied(1), 106.0)  # three empty, and nine others wait
    for _ in range(9):
        lane.row(ROW, 106.5)
    lane.occupied(occupied(1), 107.0)  # three empty, but no row is left for them
    assert lane.load_s == pytest.approx(4.0)
    assert lane.run_s(107.0) == pytest.approx(3.0)
    assert lane.occupied_share == pytest.approx(6 / 12)
    assert lane.bubble_share == pytest.approx(3 / (4 + 4 + 1))
    assert lane.rows_per_s(107.0) == pytest.approx(3.0)
    assert lane.tokens_per_s(107.0) == pytest.approx(9.0)
    assert lane.eta_s(107.0) == pytest.approx(1 / 3)
    lane.row(ROW, 107.5)
    lane.end(120.0, "done")
    assert lane.run_s(121.0) == pytest.approx(3.5)  # the end of Ray is no part of it
    assert lane.eta_s(121.0) is None
    assert lane.summary(121.0)["rows"] == {
        "total": 10,
        "ok": 10,
        "errors": 0,
        "before": 0,
        "computed": 10,
        "again": 0,
    }


def test_what_is_not_known_is_missing() -> None:
    lane = Lane("generate", total=3)
    assert table([lane], 0.0)[1].split() == [
        "generate",
        "0/3",
        "0",
        *["--"] * 2,
        *["--", "%"] * 2,
        *["--"] * 3,
    ]
    assert clock(None) == "--"
    assert clock(3725) == "1:02:05"


def test_a_strip_of_any_length_keeps_its_sums() -> None:
    strip = Strip(span_s=1.0)
    assert strip.shares(5) == []
    for second in range(10_000):
        strip.add(float(second), second + 1.0, 1.0 if second < 5_000 else 0.25, 1.0)
    shares = strip.shares(10)
    assert shares[:4] == pytest.approx([1.0] * 4)
    assert shares[6:] == pytest.approx([0.25] * 4)
    assert sum(busy for busy, _ in strip.spans) == pytest.approx(6_250)
    short = Strip(span_s=1.0)
    short.add(0.0, 1.0, 1.0, 2.0)
    assert short.shares(3) == [0.5] * 3


def test_lines_say_what_is_new_and_figures_every_five_seconds() -> None:
    said: list[str] = []
    narrator, lane = Narrator(said.append), Lane("generate", total=4)
    narrator.look([lane], 0.0, 0.0)
    lane.begin(0.0)
    lane.step = "model"
    for now in (0.1, 0.2):
        narrator.look([lane], now, 0.0)
    lane.occupied(occupied(4), 1.0)
    lane.row(ROW, 1.0)
    for now in (1.0, 2.0, 6.5, 7.0):
        narrator.look([lane], now, 0.0)
    lane.end(8.0, "failed", "3 starts brought no row")
    narrator.look([lane], 8.0, 0.0)
    assert [line.split()[0] for line in said] == ["00:00", "00:01", "00:06", "00:08"]
    assert "starts: model" in said[0]
    assert "1/4 rows 25 %" in said[1]
    assert "failed: 3 starts brought no row" in said[3]


def test_a_meter_counts_steps_as_long_as_they_are_and_pauses_as_nothing() -> None:
    now = [0.0]
    told: list[dict[str, Any]] = []
    meter = Meter("e", 8, lambda event, **fields: told.append(fields), clock=lambda: now[0])

    def at(seconds: float) -> None:
        now[0] = seconds

    at(1.0)
    meter.step(running=4, left=2)  # the first: it began when the meter did
    at(2.0)
    meter.step(running=2, left=0)
    at(3.0)
    meter.tell()
    at(10.0)
    meter.step(running=8, left=8)  # after a pause: as long as the step before it
    at(10.5)
    meter.tell()  # half of a step that goes on
    at(11.0)
    meter.step(running=8, left=0)
    meter.tell()
    assert [(one["span_s"], one["busy_s"], one["steps"], one["step_s"]) for one in told] == [
        (3.0, 6.0, 2, 2.0),
        (7.5, 12.0, 1, 1.5),
        (0.5, 4.0, 1, 0.5),
    ]
    assert [one["running"] for one in told] == [0, 8, 0]
