"""Whole lines out of a stream that is split anywhere, and never more held than a line may have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.ipc.lines import LineSplitter, LineTooLong


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
def test_any_splitting_gives_the_lines_back(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"half"
    splitter, got, at = LineSplitter(100), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 20))
        got += splitter.feed(stream[at : at + size])
        at += size
    assert got == lines


def test_a_line_too_long_is_refused_before_its_end() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"0123456789") == []
    with pytest.raises(LineTooLong):
        splitter.feed(b"0")
    with pytest.raises(LineTooLong):
        splitter.feed(b"short\n" + b"x" * 11 + b"\n")
