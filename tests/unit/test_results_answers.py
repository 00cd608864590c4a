"""Agreement of answers, and what is told of each: by hand, on answers as they were recorded."""

from __future__ import annotations

import pytest

from rvtop.results.answers import (
    Agreement,
    Answer,
    Question,
    agreement,
    differing,
    holds,
    retrieval,
    rows,
    script,
)

ASKED = [
    Question("q01", "재택근무는 한 주에 며칠까지 할 수 있나요?", True),
    Question("q02", "How large is a home directory?", False),
    Question("q03", "What is it called?"),
]


def answers(name: str, *texts: str | None, finish: str = "stop") -> list[Answer]:
    """One answer a question; None: it failed."""
    return [
        Answer(text or "", finish, 4, "" if text is not None else "http_500", "", name, "m", question.id)
        for question, text in zip(ASKED, texts, strict=True)
    ]


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("a b c", "a b c", Agreement(True, 1.0, None)),
        ("a b c", "a  b c", Agreement(False, 1.0, None)),  # the same words, other spaces
        ("a b c", "a b d", Agreement(False, 2 / 3, 2)),
        ("a b", "a b c d", Agreement(False, 4 / 6, 2)),  # one goes on where the other ends
        ("a", "", Agreement(False, 0.0, 0)),
        ("", "", Agreement(True, 1.0, None)),
        ("a a a", "a", Agreement(False, 2 / 4, 1)),  # a word that repeats counts as often as both have it
        ("두 시간, 네 시간.", "두 시간 네 시간.", Agreement(False, 10 / 11, 2)),
    ],
)
def test_agreement_tells_overlap_and_the_first_word_that_differs(
    one: str, two: str, expected: Agreement
) -> None:
    assert agreement(one, two) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("최대 2일 (two)까지", "Hangul"),
        ("500 gigabytes", "Latin"),
        ("ひらがなと漢字です", "Kana"),
        ("文件", "Han"),
        ("42 %", None),
        ("", None),
        ("ꦲꦏ꧀", "other"),
    ],
)
def test_script_is_that_of_most_letters(text: str, expected: str | None) -> None:
    assert script(text) == expected


def test_a_passage_is_found_across_broken_lines_and_in_any_case() -> None:
    assert holds("[1] Each home\n directory holds", "each  home directory")
    assert not holds("[1] Each home", "each home directory")


def test_a_row_tells_agreement_with_the_reference_and_what_its_answers_are_like() -> None:
    reference = answers("rac", "최대 2일", "Each holds 500 GB", "Unknown")
    other = answers("rvc", "최대 2일", "각 500 GB", "", finish="length")
    first, second = rows(ASKED, [*reference, *other], "rac")
    assert (first["name"], first["compared"], first["identical"], first["overlap_mean"]) == (
        "rac",
        0,
        0,
        None,
    )
    assert (first["empty"], first["cut_off"], first["script_of_question"]) == (0, 0, 3)
    assert (second["compared"], second["identical"]) == (3, 1)
    assert second["overlap_mean"] == pytest.approx((1 + 4 / 7 + 0) / 3)
    assert second["overlap_min"] == 0
    assert second["first_divergence_median"] == 0
    assert (second["empty"], second["cut_off"]) == (1, 3)
    assert second["scripts"] == {"Hangul": 1, "Latin": 1, "none": 1}
    assert (second["script_known"], second["script_of_question"]) == (2, 2)
    assert (second["words_mean"], second["words_max"], second["tokens_mean"]) == (5 / 3, 3, 4)


def test_an_answer_that_failed_is_told_and_compared_with_nothing() -> None:
    found = [*answers("rac", "a", None, "c"), *answers("rvc", None, "b", "c")]
    first, second = rows(ASKED, found, "rac")
    assert (first["asked"], first["answered"], first["errors"]) == (3, 2, {"http_500": 1})
    assert (second["compared"], second["identical"]) == (1, 1)
    assert differing(found, "rac") == []


def test_models_are_compared_each_with_its_own() -> None:
    found = [
        Answer(model, name=name, model=model, question="q01")
        for name in ("rac", "rvc")
        for model in ("m1", "m2")
    ]
    told = rows(ASKED, found, "rac")
    assert [(row["name"], row["model"], row["identical"]) for row in told] == [
        ("rac", "m1", 0),
        ("rac", "m2", 0),
        ("rvc", "m1", 1),
        ("rvc", "m2", 1),
    ]


def test_the_answers_that_differ_most_come_first() -> None:
    found = [*answers("rac", "a b", "c d", "e"), *answers("rvc", "a x", "y z", "e")]
    assert [(one["id"], one["overlap"], one["at_word"]) for one in differing(found, "rac")] == [
        ("q02", 0.0, 0),
        ("q01", 0.5, 1),
    ]


def test_retrieval_counts_only_where_the_passage_is_known() -> None:
    assert retrieval(ASKED) == {"known": 2, "hit": 1}
