"""Rows of a batch: what is read of a file, and what a bad row is told."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.batch.rows import BadRow, Row, read_rows
from rvtop.errors import UserError

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def read(tmp_path: Path, *rows: Any, model: str = "") -> list[Row | BadRow]:
    return list(read_rows(written(tmp_path / "rows.jsonl", list(rows)), model))


def request(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body, **more}


def test_rows_of_our_own_and_of_openai_mean_the_same(tmp_path: Path) -> None:
    ours, theirs, text = read(
        tmp_path,
        {"id": "x", **HELLO, "max_tokens": 7, "temperature": 0, "stop": "end"},
        request({**HELLO, "model": "m", "max_completion_tokens": 7, "temperature": 0, "stop": ["end"]}),
        {"prompt": "once upon"},
    )
    assert isinstance(ours, Row)
    assert isinstance(theirs, Row)
    assert isinstance(text, Row)
    assert (ours.id, theirs.id, text.id) == ("x", "a", "row-3")
    assert {**ours.work, "key": 2} == theirs.work
    assert ours.work["max_tokens"] == 7
    assert ours.work["sampling"]["stop"] == ["end"]
    assert theirs.model == "m"
    assert text.work["prompt"] == "once upon"
    assert not text.chat
    assert text.work["sampling"].keys() == ours.work["sampling"].keys()  # one Arrow table holds them all


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ({}, "must have either 'messages' or 'prompt'"),
        ({**HELLO, "prompt": "x"}, "must have either"),
        ({"messages": []}, "messages: must be a list that is not empty"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content: must be a text"),
        (
            {"messages": [{"role": "wizard", "content": "x"}]},
            "messages[0].role: 'wizard' must be one of system",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only parts of text"),
        ({"prompt": ""}, "prompt: must be a text that is not empty"),
        ({**HELLO, "temperature": float("nan")}, "temperature: nan is not a finite number"),
        ({**HELLO, "temperature": -1}, "temperature: -1 must be at least 0"),
        ({**HELLO, "top_p": 0}, "top_p: 0 must be above 0"),
        ({**HELLO, "top_p": "1"}, "top_p: '1' must be a number"),
        ({**HELLO, "temperature": 10**400}, "temperature: inf is not a finite number"),
        ({**HELLO, "seed": 2**63}, "seed: 9223372036854775808 must be below 2^63"),
        ({**HELLO, "top_k": 10**400}, "must be below 2^63"),
        ({"prompt": "a\ud800"}, "prompt: its character 1 is half of a surrogate pair"),
        ({"messages": [{"role": "user", "content": "\udc00"}]}, "messages[0].content: its character 0"),
        ({**HELLO, "stop": ["\ud800"]}, "stop: its character 0"),
        ({**HELLO, "max_tokens": 0}, "max_tokens: 0 must be at least 1"),
        ({**HELLO, "max_tokens": 3, "min_tokens": 4}, "min_tokens: 4 is more than max_tokens 3"),
        ({**HELLO, "seed": 1.5}, "seed: 1.5 must be a whole number"),
        ({**HELLO, "stop": [""]}, "stop: must be a text, or a list of texts"),
        ({**HELLO, "ignore_eos": 1}, "ignore_eos: 1 must be true or false"),
        ({**HELLO, "n": 2}, "n: 2 must be 1"),
        ({**HELLO, "tools": [{}]}, "tools: is not computed in a batch; leave it out"),
        ({**HELLO, "custom_id": True}, "custom_id: must be a text"),
        (request({}, method="GET"), "method: 'GET' must be 'POST'"),
        (request({}, url="/v1/embeddings"), "url: '/v1/embeddings' must be one of"),
        (request([]), "body: must be an object"),
        (request({**HELLO, "model": "other"}), "model: 'other' is not served; 'mine' is"),
    ],
)
def test_a_bad_row_is_told_what_where_and_what_it_must_be(tmp_path: Path, row: Any, told: str) -> None:
    before, bad, after = read(tmp_path, {"id": 1, **HELLO}, row, {"id": 3, **HELLO}, model="mine")
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert isinstance(bad, BadRow)
    assert bad.key == 2
    assert told in bad.reason


def test_the_second_row_of_an_id_is_bad_and_empty_lines_are_none(tmp_path: Path) -> None:
    first, second = read(tmp_path, {"id": "a", **HELLO}, "", {"id": "a", **HELLO})
    assert isinstance(first, Row)
    assert second == BadRow(3, "a", "the id 'a' is that of an earlier row")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["body", "messages", "prompt", "stop", "role", "seed", "id"]), inner
            )
        ),
    )
)
def test_no_row_ends_the_reading(tmp_path_factory: pytest.TempPathFactory, row: Any) -> None:
    path = written(tmp_path_factory.getbasetemp() / "any.jsonl", [row, {"id": "last", **HELLO}])
    assert list(read_rows(path))[-1].id == "last"


def test_parquet_has_a_column_a_field(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    rows = [
        {"id": "a", "prompt": "once", "messages": None, "max_tokens": 3, "body": None},
        {"id": "b", "prompt": None, "messages": HELLO["messages"], "max_tokens": None, "body": None},
        {"id": "c", "prompt": None, "messages": None, "max_tokens": None, "body": json.dumps(HELLO)},
        {"id": "d", "prompt": None, "messages": None, "max_tokens": None, "body": "{"},
    ]
    timed = [{"id": "e", "messages": [{**HELLO["messages"][0], "at": datetime(2026, 1, 1)}]}]
    parquet.write_table(arrow.Table.from_pylist(timed), path)
    assert list(read_rows(path)) == [
        BadRow(1, "e", "messages[0]: Object of type datetime is not JSON serializable")
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    text, chat, body, bad = read_rows(path)
    assert isinstance(text, Row)
    assert isinstance(chat, Row)
    assert isinstance(body, Row)
    assert (text.work["prompt"], text.work["max_tokens"]) == ("once", 3)
    assert chat.work["messages"] == body.work["messages"] == HELLO["messages"]
    assert isinstance(bad, BadRow)
    path.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="is no Parquet file that can be read"):
        list(read_rows(path))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(UserError, match="Is a directory"):
        list(read_rows(tmp_path))
