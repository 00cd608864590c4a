"""rvtop/text.py: what is escaped, what stays, and that it costs nothing where there is nothing to do."""

from __future__ import annotations

import unicodedata

import pytest

from rvtop.text import log_line, phase_words, printable, told


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain text, [bold red]as it is[/]", "plain text, [bold red]as it is[/]"),
        ("evil\x1b[2J\x1b]0;title\x07", "evil\\x1b[2J\\x1b]0;title\\x07"),
        ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
        ("\x9b2J \x7f \x00", "\\x9b2J \\x7f \\x00"),
        ("user\u202etxt.exe\u2066a\u2069\u200f\u061c", "user\\u202etxt.exe\\u2066a\\u2069\\u200f\\u061c"),
        ("a\u200bb\u2060c\ufeffd\xade", "a\\u200bb\\u2060c\\ufeffd\\xade"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("half \ud800", "half \\ud800"),
        ("q3b\u200d", "q3b\\u200d"),
        ("q\ufe0fx", "q\\ufe0fx"),
        ("\u3042\U000e0101\U000e0102", "\u3042\U000e0101\\U000e0102"),
    ],
)
def test_what_would_act_or_hide_becomes_a_visible_escape(text: str, safe: str) -> None:
    assert printable(text) == safe
    assert printable(safe) == safe


@pytest.mark.parametrize(
    "text",
    [
        "한국어 모델, 자모 ㄱ",
        "👩‍💻 ❤️‍🔥 1️⃣ 👍🏽",
        "می‌خواهم",  # Persian, with the non-joiner that its spelling wants
        "क्‍ष",
        "日本語\u3000全角",
        "naïve\xa0café…",
        "e\u0301",
    ],
)
def test_text_of_every_script_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_no_character_of_unicode_that_acts_on_a_terminal_is_left() -> None:
    for code in range(0x110000):
        char = chr(code)
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B", "S",
        ):  # fmt: skip
            assert char not in printable(f"a{char}b"), hex(code)


def test_a_limit_holds_also_where_escapes_make_the_text_longer() -> None:
    assert printable("abcdef", 6) == "abcdef"
    assert printable("abcdefg", 6) == "abcde…"
    assert printable("\x1b\x1b", 6) == "\\x1b\\…"
    for limit in range(1, 20):
        cut = printable("\x1b[2J한\u202e" * 9, limit)
        assert len(cut) == limit
        assert printable(cut, limit) == cut


def test_a_value_of_any_type_is_told() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert told(None) == ""
    assert told(["\x1b[2J"]) == "['\\x1b[2J']"
    assert told(10**10_000) == "(int)"
    assert told(deep) == "(list)"
    assert told({"a": 1}, 4) == "{'a…"


def test_a_log_line_loses_its_colours_and_no_more() -> None:
    assert log_line("\x1b[36m(pid=7)\x1b[0m\tready\x1b[2J\r\n") == "(pid=7) ready\\x1b[2J"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hold", "hold"),
        ("paper/n=24#3", "paper/n=24#3"),
        ("live#target-2", "live, 2nd server"),
        ("hold#again-3#target-11", "hold, 3rd time, 11th server"),
        ("a#target-21", "a, 21st server"),
    ],
)
def test_a_phase_that_began_anew_is_named_in_words(name: str, words: str) -> None:
    assert phase_words(name) == words
