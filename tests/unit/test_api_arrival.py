"""The router's stamp of a request's arrival, as an engine's server reads it."""

from __future__ import annotations

import time

import pytest

from backends.api import arrival

NOW_US = 1_790_000_000_000_000


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1000 * NOW_US)


@pytest.mark.parametrize(
    ("stamp", "ms"),
    [
        (f"{NOW_US - 12_345} {arrival.machine()}", 12.345),
        (f"{NOW_US} {arrival.machine()}", 0.0),
        (f"{NOW_US + 1} {arrival.machine()}", None),  # the clock was set
        (f"{NOW_US - 12_345} {'0' * 16}", None),  # another machine's clock
        (f"{NOW_US - 12_345}", None),
        (f"{NOW_US - 12_345} {arrival.machine()} x", None),
        ("", None),
        (None, None),
        (f"{'٣' * 16} {arrival.machine()}", None),
    ],
)
def test_what_it_says_of_this_machine_and_of_others(stamp: str | None, ms: float | None) -> None:
    assert arrival.router_ms(stamp) == ms


def test_a_machine_has_one_name() -> None:
    assert arrival.machine() == arrival.machine()
    assert len(arrival.machine()) == 16
