"""requests.jsonl as columns: a cut last line is no damage, any other is named with its line."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.load.record import Record, lines
from rvtop.results.table import NONE, TableError, read, read_lines
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
    table = read(path)
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
    table = read(path)
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
        assert read(path).intended.size == kept.count(b"\n")
        assert len(read_lines(path)) == kept.count(b"\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (b"not json\n", ":2: not JSON"),
        (b"\n", ":2: not JSON"),
        (b"[1]\n", ":2: not a JSON object"),
        (b'{"id": 3}\n', ":2: not a request of this version: KeyError"),
        (jsonl([request(1, "p", 1, itl_hist=[[99999, 1]])]).encode(), ":2: not a request of this version"),
        (jsonl([request(1, "p", 1, itl_hist=7)]).encode(), ":2: not a request of this version"),
        (jsonl([request(1, "p", 1, chunks="x")]).encode(), ":2: not a request of this version"),
        (jsonl([request(1, "p", 1, chunks=1 << 63)]).encode(), ":2: not a request of this version"),
        (b"\xff\xfe\n", ":2: not JSON"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path: Path, damage: bytes, says: str) -> None:
    good = jsonl([request(0, "p", 1)]).encode()
    path = tmp_path / "requests.jsonl"
    path.write_bytes(good + damage + good)
    with pytest.raises(TableError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}{says}")


def test_an_absent_table_is_named_and_an_absent_log_is_empty(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        read(tmp_path / "requests.jsonl")
    assert read_lines(tmp_path / "commands.jsonl") == []
