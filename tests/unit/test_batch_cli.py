"""``rvtop batch`` as a command: what it refuses, its exit codes, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvtop.batch import job
from tests.batch_engine import PLAN, command
from tests.conftest import Rvtop
from tests.unit.test_batch_job import COUNT, check_once, rows_file


@pytest.fixture(autouse=True)
def _engine_that_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "engine_command", command)


def test_results_and_a_summary_as_lines_or_json(rvtop_here: Rvtop, tmp_path: Path) -> None:
    file = rows_file(tmp_path)
    code, out, err = rvtop_here(
        "batch", file, "--how", "generate", "--out", tmp_path / "out", "--ui", "plain"
    )
    assert code == 0
    assert "1 of 41 rows have no answer: errors.jsonl says why" in err
    assert f"results: {tmp_path / 'out'}" in out
    assert f"{COUNT}/41" in out
    check_once(tmp_path / "out")
    code, out, _ = rvtop_here(
        "batch", file, "--how", "generate", "--out", tmp_path / "out", "--resume", "--json"
    )
    assert code == 0
    rows = json.loads(out)["ways"]["generate"]["rows"]
    assert (rows["before"], rows["computed"]) == (COUNT, 0)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == json.loads(out)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--how", "all,generate"),
            "--how: 'all' is unknown; give generate, map-batches, ray-data-llm, or all",
        ),
        (("--engines", "0"), "--engines 0: must be 1 or more"),
        (("--batch-size", "-1"), "--batch-size -1: must be 1 or more"),
        (("--stall-after", "nan"), "--stall-after nan: must be above 0"),
        (("--model", "=x"), "--model '=x': write NAME=SOURCE, or SOURCE alone"),
        (("--ui", "none", "--resume", "--engines", "2", "--how", "none"), "--how: 'none' is unknown"),
    ],
)
def test_what_can_t_be_is_refused_in_one_line(
    rvtop_here: Rvtop, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    code, _, err = rvtop_here("batch", rows_file(tmp_path), "--out", tmp_path / "out", *words)
    assert code == 2
    assert told in err
    assert not (tmp_path / "out").exists()


def test_a_file_without_rows_and_one_that_is_missing_are_refused(rvtop_here: Rvtop, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, told in (("empty.jsonl", "has no rows"), ("none.jsonl", "can't be read: No such file")):
        code, _, err = rvtop_here("batch", tmp_path / name, "--out", tmp_path / "out")
        assert code == 2
        assert told in err


def test_an_engine_that_does_not_start_is_exit_code_4(rvtop_here: Rvtop, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / PLAN).write_text('{"kind": "start"}')
    code, _, err = rvtop_here(
        "batch", rows_file(tmp_path), "--how", "generate", "--out", tmp_path / "out", "--ui", "none"
    )
    assert code == 4
    assert "generate: the model is\\x1b[31m not there" in err
