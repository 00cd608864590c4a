from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rvtop.ui import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "--"),
        (math.nan, "--"),
        (math.inf, "--"),
        (0, "0"),
        (0.0123, "0.012"),
        (0.41, "0.410"),
        (0.9996, "1.00"),
        (3.14159, "3.14"),
        (9.999, "10.0"),
        (31.42, "31.4"),
        (99.96, "100"),
        (314.2, "314"),
        (999.6, "1 000"),
        (1210.4, "1 210"),
        (11842, "11 800"),
        (999_600, "1.00M"),
        (1_234_567, "1.23M"),
        (2.5e9, "2.50G"),
        (-31.42, "-31.4"),
    ],
)
def test_three_digits(value: float | None, text: str) -> None:
    assert fmt.sig3(value) == text


@given(st.floats(min_value=1e-2, max_value=9e14))
def test_three_digits_are_within_half_a_percent_and_seven_cells(value: float) -> None:
    text = fmt.sig3(value)
    assert len(text) <= 7
    number = text.replace(" ", "")
    size = {"M": 1e6, "G": 1e9, "T": 1e12}.get(number[-1], 1.0)
    # below 1 the third digit gives way to a fixed width of three decimals
    assert float(number.rstrip("MGT")) * size == pytest.approx(value, rel=0.0051, abs=0.00051)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "--"), (0.0, "0.0"), (0.25, "0.25"), (0.5, "0.5"), (48, "48.0"), (99.97, "100"), (1600, "1 600")],
)
def test_rates(value: float | None, text: str) -> None:
    assert fmt.rate(value) == text


def test_counts_are_exact_until_they_are_too_long() -> None:
    assert fmt.count(2841) == "2 841"
    assert fmt.count(9_999_999) == "9 999 999"
    assert fmt.count(12_345_678) == "12.3M"
    assert fmt.count(None) == "--"


def test_counts_in_four_cells() -> None:
    assert [fmt.tight(v) for v in (None, 0, 9999, 12_345, 5e7)] == ["--", "0", "9999", "12k", "999k"]
    assert [fmt.brief(v) for v in (8, 120, 1500, 2e6)] == ["8", "120", "1.5k", "2.00M"]


def test_times_and_sizes() -> None:
    assert fmt.clock(42.9) == "00:42"
    assert fmt.clock(3723) == "1:02:03"
    assert fmt.clock(None) == "--:--"
    assert fmt.short_span(0.42) == "0.4 s"
    assert fmt.short_span(9.96) == "10 s"
    assert fmt.short_span(180) == "3 min"
    assert fmt.age(6.3) == "6 s"
    assert fmt.tick(0.5) == "500 µs"
    assert fmt.tick(50) == "50 ms"
    assert fmt.tick(2000) == "2 s"
    assert fmt.percent(0.635) == "64 %"
    assert fmt.percent(None) == "--"
    assert fmt.gib(98 * 2**30) == "98"
    assert fmt.gib(1.24 * 2**30) == "1.2"
    assert fmt.gib(None) == "--"
    assert fmt.size_of(310 * 2**20) == "310 MiB"
    assert fmt.size_of(12) == "12 B"
    assert fmt.wall(0) == "00:00:00"


@given(st.text(max_size=30), st.integers(min_value=1, max_value=20))
def test_clipped_text_fits_and_fixed_text_fills(text: str, width: int) -> None:
    assert cell_len(fmt.clip(text, width)) <= width
    assert cell_len(fmt.fixed(text, width)) == width


def test_clipping_wide_letters_keeps_whole_ones() -> None:
    assert fmt.clip("한국어 모델", 6) == "한국…"
    assert fmt.clip("abc", 3) == "abc"
