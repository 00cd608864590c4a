"""The warm-up of a run is told with the figures with and without it, and left out where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.errors import UserError
from rvtop.results.beside_text import warm_up_line
from rvtop.results.summary import summarise
from rvtop.text import phase_words
from tests.unit.run_folder import command, make, phase, request, second

COLD, WARM, COUNT = 300.0, 50.0, 200
SLOW = 20  # requests that pay for the server's start


def folder_of(folder: Path, *commands: dict[str, Any], slow: int = SLOW, **of_phase: Any) -> Path:
    """Ten requests a second, whose first ``slow`` take ``COLD`` ms to the first token, all others ``WARM``
    and up to 9 ms more."""
    rows = [
        request(
            number,
            "hold",
            100.0 * number,
            lag=0.0,
            first=(COLD if number < slow else WARM) + number % 10,
            last=(COLD if number < slow else WARM) + 500.0,
            itl_hist=[[100 if number < slow else 50, 4]],
        )
        for number in range(COUNT)
    ]
    begin = phase("hold", 0.0, 20.0, **{"rate_from": 10.0, "rate_to": 10.0, **of_phase})
    stop = command(20.5, "stop")
    return make(folder, rows, [begin, *commands, stop], [second(t) for t in range(1, 21)], models=["a"])


def test_it_is_told_and_left_in(tmp_path: Path) -> None:
    result = summarise(folder_of(tmp_path))
    found = result["warm_up"]
    assert result["steady_from_s"] == found["until_s"] == pytest.approx(2.0)
    assert (found["phase"], found["requests"], found["excluded"]) == ("hold", SLOW, False)
    assert result["requests"]["ok"] == COUNT
    assert found["with"]["ttft_ms"] == result["ttft_ms"]
    assert found["without"]["ttft_ms"]["mean"] == pytest.approx(WARM + 4.5)
    assert found["without"]["ttft_ms"]["count"] == COUNT - SLOW
    assert warm_up_line(found).endswith("--exclude-warm-up auto leaves them out")
    assert "TTFT mean" in warm_up_line(found)
    for figures in (found["with"], found["without"]):  # as answers in one piece have them
        figures["ttft_ms"] = {"mean": None, "p99": None, "count": 0}
    assert "E2E mean --" not in warm_up_line(found)
    assert "E2E mean" in warm_up_line(found)


def test_it_is_left_out_where_that_was_asked_for(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    asked = CliRunner().invoke(app, ["report", str(folder), "--exclude-warm-up", "auto"])
    assert asked.exit_code == 0, asked.output
    assert "they are left out" in asked.output
    result = summarise(folder)
    assert result["warm_up"]["excluded"] is True
    assert result["ttft_ms"] == result["warm_up"]["without"]["ttft_ms"]
    assert result["requests"]["ok"] == COUNT - SLOW
    assert result["rate"]["requested_rps"] == pytest.approx(10.0)
    parts = {part["name"]: part for part in result["phases"]}
    assert [(name, part["warmup"]) for name, part in parts.items()] == [
        ("hold#warm-up", True),
        ("hold", False),
    ]
    assert parts["hold#warm-up"]["requests"]["ok"] == SLOW
    # The gaps between tokens go with their requests.
    assert parts["hold"]["itl_ms"]["count"] == 4 * (COUNT - SLOW)
    assert parts["hold#warm-up"]["itl_ms"]["count"] == 4 * SLOW
    assert parts["hold#warm-up"]["itl_ms"]["min"] > parts["hold"]["itl_ms"]["max"]
    again = CliRunner().invoke(app, ["report", str(folder), "--exclude-warm-up", "none"])
    assert again.exit_code == 0
    assert summarise(folder)["requests"]["ok"] == COUNT


def test_runs_that_leave_out_more_or_less_did_the_same_work(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / "a"), folder_of(tmp_path / "b", slow=30)]
    for folder in folders:
        CliRunner().invoke(app, ["report", str(folder), "--exclude-warm-up", "auto"])
    compared = CliRunner().invoke(app, ["compare", *map(str, folders), "--json"])
    assert compared.exit_code == 0, compared.output
    assert "requests of" not in compared.output
    assert phase_words("hold#warm-up") == "hold, warm-up"


def test_a_choice_that_is_none_changes_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    asked = CliRunner().invoke(app, ["report", str(folder), "--exclude-warm-up", "5s"])
    assert isinstance(asked.exception, UserError)
    assert asked.exception.exit_code == 2
    assert "must be auto or none" in str(asked.exception)
    assert summarise(folder)["warm_up"]["excluded"] is False


@pytest.mark.parametrize(
    ("commands", "of_phase"),
    [
        ([], {"rate_from": 1.0}),
        ([], {"burst": 200}),
        ([command(5.0, "rate", value=20.0)], {}),
        ([command(5.0, "pause")], {}),
    ],
    ids=["ramp", "round", "rate-by-hand", "paused"],
)
def test_a_load_that_changes_has_none(
    tmp_path: Path, commands: list[dict[str, Any]], of_phase: dict[str, Any]
) -> None:
    result = summarise(folder_of(tmp_path, *commands, **of_phase))
    assert result["warm_up"] is None
    assert result["steady_from_s"] is None


def test_a_run_that_is_steady_has_none(tmp_path: Path) -> None:
    result = summarise(folder_of(tmp_path, slow=0))
    assert result["warm_up"] is None
    assert warm_up_line(result["warm_up"]) == ""


def test_a_phase_that_is_a_warm_up_is_not_looked_at(tmp_path: Path) -> None:
    assert summarise(folder_of(tmp_path, warmup=True))["warm_up"] is None
