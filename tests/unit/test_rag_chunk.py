"""Chunks: for any text they cover it, stay within their size, and overlap as asked."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.corpus import sample
from backends.corpus.chunk import OVERLAP, SIZE, Document, chunks, spans

WORDS = st.text(st.sampled_from("가나다 abc.?!\n\t'\" "), max_size=600)
SIZES = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


@given(text=WORDS | st.text(max_size=300), how=SIZES)
def test_spans_cover_the_text(text: str, how: tuple[int, int]) -> None:
    size, overlap = how
    found = spans(text, size, overlap)
    assert bool(found) == bool(text)
    for a, b in found:
        assert 0 < b - a <= size
    for (a, b), (c, d) in pairwise(found):
        assert a < c <= b < d, "each starts later, leaves no gap, and ends later"
        assert b - c <= overlap
    if text:
        assert found[0][0] == 0
        assert found[-1][1] == len(text)


@given(size=st.integers(2, 40), length=st.integers(0, 300), data=st.data())
def test_text_without_words_is_cut_in_equal_steps(size: int, length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    found = spans("가" * length, size, overlap)
    for (_, b), (c, _) in pairwise(found):
        assert b - c == overlap
    assert all(b - a == size for a, b in found[:-1])


@given(text=WORDS)
def test_overlap_starts_at_a_word(text: str) -> None:
    for (_, b), (c, _) in pairwise(spans(text, 40, 15)):
        window = text[b - 15 : b]
        starts = [i for i in range(b - 15, b) if not text[i].isspace() and text[i - 1 : i].isspace()]
        assert c == (starts[0] if starts else b - 15), window


def test_prefers_the_end_of_a_paragraph_then_line_then_sentence() -> None:
    filler = "word " * 20
    assert spans(filler + "end.\n\nnext. line\nmore words here" + " and so on" * 3, 150, 0)[0][1] == 106
    assert spans(filler + "one. two\nthree. four five six seven eight nine ten", 130, 0)[0][1] == 109
    assert spans(filler + "one. two three four five six seven eight nine ten", 130, 0)[0][1] == 105


def test_chunks_carry_their_place() -> None:
    documents = sample.documents()
    texts = {d.name: d.text for d in documents}
    found = chunks(documents)
    assert len({c.id for c in found}) == len(found) > 300
    for c in found:
        assert c.text == texts[c.doc][c.start : c.end].strip() != ""
        assert len(c.text) <= SIZE
    assert [c.number for c in found if c.doc == "handbook.ko"] == list(
        range(sum(c.doc == "handbook.ko" for c in found))
    )
    assert OVERLAP < SIZE


def test_white_space_makes_no_chunk() -> None:
    assert chunks([Document("empty", ""), Document("blank", " \n " * 200)]) == []


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (10, 10), (10, -1), (10, 11)])
def test_impossible_sizes(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=r"chunk (size|overlap) must be"):
        spans("text", size, overlap)
