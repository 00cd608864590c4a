from __future__ import annotations

from dataclasses import replace

import made
import pytest

from rvtop.contract.handle import clean_url
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.action import SCREEN_PLACES
from rvtop.ui.keymap import bindings
from rvtop.ui.keys import ACTIONS
from rvtop.ui.pending_rate import HOLD_S, PendingRate
from rvtop.ui.rate_phrase import parse_rate


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def at(rps: float | None, *, state: str = "running", max_rate: float | None = None) -> Snapshot:
    s = made.live()
    return replace(s, state=state, load=replace(s.load, target_rps=rps, max_rate=max_rate))


def test_quick_presses_add_up_while_the_snapshot_lags() -> None:
    pending_rate = PendingRate(Clock())
    pending_rate.observe(at(5.0))
    for wanted in (6.0, 7.0, 17.0):
        step = 10 if wanted == 17.0 else 1
        assert pending_rate.after(step) == wanted
        pending_rate.ask(wanted)
        pending_rate.observe(at(5.0))  # the session has not followed yet
    assert pending_rate.shown == 17.0
    pending_rate.observe(at(17.0))
    assert pending_rate.pending is None
    assert pending_rate.after(-1) == 16.0


def test_a_rate_that_is_never_taken_is_forgotten() -> None:
    clock = Clock()
    pending_rate = PendingRate(clock)
    pending_rate.observe(at(5.0))
    pending_rate.ask(9.0)
    clock.now += HOLD_S / 2
    pending_rate.observe(at(5.0))
    assert pending_rate.shown == 9.0
    clock.now += HOLD_S
    assert pending_rate.expire()
    assert not pending_rate.expire()
    pending_rate.observe(at(5.0))
    assert pending_rate.shown == 5.0


def test_the_rate_stays_within_its_limits() -> None:
    pending_rate = PendingRate(Clock())
    pending_rate.observe(at(3.0, max_rate=8.0))
    assert pending_rate.after(-10) == 0.0
    assert pending_rate.after(10) == 8.0
    pending_rate.observe(at(None))
    assert pending_rate.after(1) == 4.0


def test_while_paused_the_dial_keeps_the_rate_to_come_back_to() -> None:
    pending_rate = PendingRate(Clock())
    pending_rate.observe(at(12.0))
    pending_rate.observe(at(0.0, state="paused"))
    assert pending_rate.shown == 12.0
    assert pending_rate.after(1) == 13.0
    pending_rate.ask(13.0)
    pending_rate.observe(at(0.0, state="paused"))
    assert pending_rate.shown == 13.0


@pytest.mark.parametrize(
    ("text", "value"), [("12.5", 12.5), (" 3 ", 3.0), ("0", 0.0), ("1e2", 100.0), ("2,5", 2.5)]
)
def test_rates_that_can_be_typed(text: str, value: float) -> None:
    assert parse_rate(text, None) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fast", "not a number"),
        ("-1", "0 or more"),
        ("nan", "no rate"),
        ("inf", "no rate"),
        ("81", "over the maximum of 80.0"),
    ],
)
def test_rates_that_are_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse_rate(text, 80.0)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 54  # one line of the dialog


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        (" http://h/v1/ ", "http://h/v1"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_urls_that_can_be_typed(text: str, url: str) -> None:
    assert clean_url(text) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "type the server's URL"),
        ("http://", "no host"),
        ("ftp://h", "only http://, https:// and grpc://"),
        ("http://h:99999", "not a URL"),
        ("http://h:0", "port 0"),
        ("a b", "no spaces"),
    ],
)
def test_urls_that_are_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        clean_url(text)
    assert "\n" not in str(refused.value)


def test_the_table_of_keys_is_sound() -> None:
    assert len({action.name for action in ACTIONS}) == len(ACTIONS)
    every = "".join(SCREEN_PLACES)
    assert len(bindings(ACTIONS, every)) == sum(bool(a.keys) and not a.fixed for a in ACTIONS)
    assert all(action.about and action.where and set(action.where) <= set(every) for action in ACTIONS)
    for places in SCREEN_PLACES:  # a key has one meaning on each screen, and each in the footer its own place
        here = [action for action in ACTIONS if action.holds(places)]
        pressed = [key for action in here for key in action.keys]
        assert len(pressed) == len(set(pressed)), places
        own = [action.foot for action in here if action.in_foot(places) and action.where != "*"]
        assert len(own) == len(set(own)), places  # the load's keys stand apart on screens with others
    assert all(action.label for action in ACTIONS if action.foot)
