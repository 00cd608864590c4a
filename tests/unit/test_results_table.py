"""requests.jsonl as columns: a line that can't be read is left out, counted and named."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.wire.record import Record, lines
from rvtop.results.lines import LONGEST, read_lines
from rvtop.results.table import NONE, TableError, read
from rvtop.stats.histogram import bucket_of
from tests.unit.run_folder import jsonl, request


def test_columns(tmp_path: Path) -> None:
    rows = [
        request(0, "p", 10, lag=1, first=2, last=3, model="b", itl_hist=[[5, 2], [7, 1]]),
        request(1, "q", 20, error="dropped"),
        request(2, "p", 30, lag=0, first=5, last=5, itl_hist=[[5, 1]], token_source="chunks"),
        request(3, "p", 40, lag=0, first=5, last=9, error="reset", itl_hist=[[5, 9]], model="b"),
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text(jsonl(rows))
    table = read(path, [])
    assert (table.phases, table.models, table.errors) == (("p", "q"), ("b", "a"), ("", "dropped", "reset"))
    assert table.phase.tolist() == [0, 1, 0, 0]
    assert table.model.tolist() == [0, 1, 1, 0]
    assert table.ok.tolist() == [True, False, True, False]
    assert table.intended.tolist() == [10_000_000, 20_000_000, 30_000_000, 40_000_000]
    assert table.sent.tolist() == [11_000_000, NONE, 30_000_000, 40_000_000]
    assert table.first.tolist() == [12_000_000, NONE, 35_000_000, 45_000_000]
    assert table.output_tokens.tolist() == [5, NONE, 5, 5]
    assert table.from_usage.tolist() == [True, False, False, True]
    # gaps of requests that ended well only
    assert {
        key: {int(i): int(counts[i]) for i in np.flatnonzero(counts)} for key, counts in table.gaps.items()
    } == {
        (0, 0): {5: 2, 7: 1},
        (0, 1): {5: 1},
    }


def test_a_worker_s_lines_come_back(tmp_path: Path) -> None:
    record = Record(9, 0, 0, 3, 5_000)
    record.sent_ns, record.first_ns, record.last_ns = 5_100, 6_000, 8_000
    record.gaps, record.chunks, record.output_tokens = array("q", [2_000]), 2, 3
    path = tmp_path / "requests.jsonl"
    path.write_bytes(lines([record], 1_000, ["p"], ["m"], 0))
    table = read(path, [])
    assert (table.intended[0], table.sent[0], table.first[0], table.last[0]) == (4_000, 4_100, 5_000, 7_000)
    assert (table.output_tokens[0], table.prompt_tokens[0], table.chunks[0]) == (3, NONE, 2)
    assert table.gaps[0, 0][bucket_of(2_000)] == 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 3), st.integers(1, 400))
def test_a_file_cut_anywhere_holds_its_whole_lines(count: int, cut: int) -> None:
    import tempfile

    text = jsonl([request(i, "p", i, lag=0, first=1, last=2) for i in range(count)]).encode()
    kept = text[: max(0, len(text) - cut)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        path.write_bytes(kept)
        whole, cut_off = kept.count(b"\n"), not kept.endswith(b"\n") and bool(kept)
        if cut_off and not whole:
            with pytest.raises(TableError, match="line 1: cut off"):
                read(path, [])
        else:
            notes: list[str] = []
            assert read(path, notes).intended.size == whole
            assert len(notes) == cut_off
        notes = []
        assert len(read_lines(path, notes)) == whole
        text = f"requests.jsonl: 1 line of {whole + 1} can't be read (line {whole + 1}: cut off); left out"
        assert notes == [text] * cut_off


GOOD = jsonl([request(0, "p", 1, lag=0, first=1, last=2, itl_hist=[[5, 1]])]).encode()
VERSION = "not a request of this version"


def broken(**fields: object) -> bytes:
    """The line of a request that ended well, but for ``fields``."""
    return jsonl([request(1, "p", 1, lag=0, first=1, last=2) | fields]).encode()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"not json\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 3000 + b"\n", "not JSON"),
        (b"x" * (LONGEST + 5) + b"\n", "longer than 16 MiB"),
        (b'{"id": 3}\n', VERSION),
        (broken(itl_hist=[[99999, 1]]), VERSION),
        (broken(itl_hist=[[1100, 1]]), VERSION),
        (broken(itl_hist=[[-1, 1]]), VERSION),
        (broken(itl_hist=[[5, -9]]), VERSION),
        (broken(itl_hist=[[5, 1], [5]]), VERSION),
        (broken(itl_hist=7), VERSION),
        (broken(chunks="x"), VERSION),
        (broken(chunks=1.5), VERSION),
        (broken(chunks=1 << 63), VERSION),
        (broken(output_tokens=-3), VERSION),
        (broken(output_tokens=None), VERSION),
        (broken(intended_ns=None), VERSION),
        (broken(intended_ns=-5), VERSION),
        (broken(last_token_ns=None), VERSION),
        (broken(phase=None), VERSION),
        (broken(model=["a"]), VERSION),
        (broken(error=7), VERSION),
    ],
)
def test_a_line_that_cannot_be_read_is_left_out_and_named(tmp_path: Path, damage: bytes, why: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(GOOD + damage + GOOD)
    notes: list[str] = []
    table = read(path, notes)
    assert notes == [f"requests.jsonl: 1 line of 3 can't be read (line 2: {why}); left out"]
    assert (table.intended.tolist(), table.from_usage.tolist()) == ([1_000_000] * 2, [True] * 2)
    assert {key: counts.tolist()[5] for key, counts in table.gaps.items()} == {(0, 0): 2}
    path.write_bytes(damage * 2)
    with pytest.raises(TableError, match=r"requests.jsonl: not a file of requests.*the first is line 1: "):
        read(path, [])


def test_an_absent_table_is_named_and_an_absent_log_is_empty(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        read(tmp_path / "requests.jsonl", [])
    assert read_lines(tmp_path / "commands.jsonl", []) == []


@pytest.mark.timeout(30)
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("fifo", "not a regular file"),
        ("folder", "not a regular file"),
        ("loop", "Too many levels of symbolic links"),
    ):
        with pytest.raises(TableError, match=why):
            read(tmp_path / name, [])
        notes: list[str] = []
        assert read_lines(tmp_path / name, notes) == []
        assert notes == [f"{name}: can't be read ({why}); left out"]
