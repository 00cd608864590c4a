"""A run in the formats of others."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from statistics import pstdev

import pytest
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.results import summary
from rvtop.results.export import COLUMNS, vllm_bench
from rvtop.stats.histogram import bucket_of
from tests.unit.run_folder import command, make, phase, request, second

GAP = bucket_of(10_000_000).item()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        request(0, "warm", 100, lag=0, first=900, last=950),
        request(1, "hold", 2000, lag=1, first=50, last=90, itl_hist=[[GAP, 4]], turn=2),
        request(2, "hold", 2010, lag=1, first=70, last=110, itl_hist=[[GAP, 4]]),
        request(3, "hold", 2500, lag=0, error="http_500", error_text='=1+1,"x"\x1b[2J'),
    ]
    commands = [phase("warm", 0.0, 1.0, warmup=True), phase("hold", 2.0, 1.0), command(3.5, "stop")]
    return make(tmp_path / "run", rows, commands, [second(1.0, tokens_per_s=40.0)])


def test_vllms_json_holds_the_summary_in_vllms_words(folder: Path) -> None:
    told, own = vllm_bench(folder), summary.summarise(folder)
    assert told["num_prompts"] == 3
    assert (told["completed"], told["failed"]) == (2, 1)
    assert told["total_output_tokens"] == 10
    assert told["duration"] == pytest.approx(0.12)
    assert told["output_throughput"] == pytest.approx(own["kpm"]["tps"])
    assert told["mean_ttft_ms"] == 60.0
    assert told["std_ttft_ms"] == pytest.approx(pstdev([50, 70]))
    assert told["median_itl_ms"] == own["itl_ms"]["p50"]
    assert told["std_itl_ms"] == pytest.approx(0, abs=1e-6)
    assert told["request_rate"] == 2.0
    assert told["max_concurrent_requests"] == 2
    assert told["max_output_tokens_per_s"] == 40.0
    assert told["date"] == "20260101-000000"


def test_a_run_without_a_good_request_has_no_latencies(tmp_path: Path) -> None:
    rows = [request(0, "hold", 100, lag=0, error="refused")]
    made = make(tmp_path / "run", rows, [phase("hold", 0.0, 1.0), command(1.5, "stop")], [])
    told = vllm_bench(made)
    assert (told["completed"], told["duration"], told["mean_ttft_ms"], told["std_itl_ms"]) == (
        0,
        None,
        None,
        None,
    )


def test_csv_has_a_row_a_request_and_no_text_that_acts(folder: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(folder), "--format", "csv"])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["ttft_ms"] for row in rows] == ["900.0", "50.0", "70.0", ""]
    assert rows[1]["turn"] == "2"
    assert sum(int(row["output_tokens"] or 0) for row in rows) == 15
    assert "\x1b" not in result.stdout
    assert rows[3]["error_text"].startswith("'=1+1")  # no spreadsheet takes it for a formula


def test_steps_of_tasks_and_arms_have_columns(tmp_path: Path) -> None:
    task = {"id": 0, "of": 4, "branch": 1, "tool_ns": 5_000_000}
    rows = [
        request(0, "hold", 100, first=1, last=2, task={**task, "step": 0, "after": []}, arm="v2"),
        request(3, "hold", 140, first=1, last=2, task={**task, "step": 3, "after": [1, 2]}),
        request(4, "hold", 150, first=1, last=2, task="no task of this version"),
    ]
    made = make(tmp_path / "run", rows, [phase("hold", 0.0, 1.0), command(1.5, "stop")], [])
    result = CliRunner().invoke(app, ["export", str(made), "--format", "csv"])
    assert result.exit_code == 0, result.output
    names = ("arm", "task", "step", "steps", "branch", "after", "tool_ns")
    told = [tuple(row[name] for name in names) for row in csv.DictReader(io.StringIO(result.stdout))]
    assert told == [
        ("v2", "0", "0", "4", "1", "", "5000000"),
        ("", "0", "3", "4", "1", "1 2", "5000000"),
        ("",) * len(names),
    ]


def test_an_answer_in_one_piece_has_its_latency(tmp_path: Path) -> None:
    rows = [request(0, "hold", 100, lag=0, last=40)]
    made = make(tmp_path / "run", rows, [phase("hold", 0.0, 1.0), command(1.5, "stop")], [])
    result = CliRunner().invoke(app, ["export", str(made), "--format", "csv"])
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["ttft_ms"], row["tpot_ms"], row["e2e_ms"]) == ("", "", "40.0")


def test_csv_and_parquet_open_in_pandas_with_the_same_sums(folder: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    sums = []
    for format in ("csv", "parquet"):
        out = tmp_path / f"out.{format}"
        result = CliRunner().invoke(app, ["export", str(folder), "--format", format, "--out", str(out)])
        assert result.exit_code == 0, result.output
        frame = getattr(pandas, f"read_{format}")(out)
        assert list(frame.columns) == list(COLUMNS)
        sums.append([len(frame), *(frame[name].sum() for name, kind in COLUMNS.items() if kind != "str")])
    assert sums[0] == sums[1]


def test_parquet_is_not_written_to_a_terminal_and_a_bad_path_is_said(folder: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(folder), "--format", "parquet"])
    assert "is no text; give --out FILE" in str(result.exception)
    missing = folder / "nowhere" / "x.csv"
    result = CliRunner().invoke(app, ["export", str(folder), "--format", "csv", "--out", str(missing)])
    assert "can't be written: No such file or directory; give another file" in str(result.exception)
    result = CliRunner().invoke(app, ["export", str(folder / "no"), "--format", "csv"])
    assert "give the folder of a run" in str(result.exception)


def test_lines_that_cant_be_read_are_told(folder: Path) -> None:
    with (folder / "requests.jsonl").open("a") as file:
        file.write("{half")
    result = CliRunner().invoke(app, ["export", str(folder), "--format", "csv"])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 5
    assert "requests.jsonl: 1 line of 5 can't be read" in result.stderr
