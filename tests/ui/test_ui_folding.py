"""Panels with nothing to say are folded, seldom, and unfolded as soon as they have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rvtop.ui.folding import APART_S, QUIET_S, Folding


def test_a_panel_is_folded_after_it_was_quiet_for_a_while_and_unfolded_at_once() -> None:
    folding = Folding()
    assert folding.observe(0, {"kv": False}, hold=False) == set()
    assert folding.observe(QUIET_S - 1, {"kv": True}, hold=False) == set()
    assert folding.observe(QUIET_S + 1, {"kv": True}, hold=False) == {"kv"}
    assert folding.observe(QUIET_S + APART_S + 2, {"kv": False}, hold=False) == set()


def test_what_is_quiet_from_the_begin_is_folded_from_the_begin() -> None:
    folding = Folding()
    assert folding.observe(0, {"kv": True, "inflight": True, "tokens": False}, hold=False) == {
        "kv",
        "inflight",
    }
    # Their first words unfold them, also the one a second after the other: a load has begun.
    assert folding.observe(1, {"kv": False, "inflight": True}, hold=False) == {"inflight"}
    assert folding.observe(2, {"kv": False, "inflight": False}, hold=False) == set()


def test_of_two_that_spoke_before_one_is_unfolded_now_and_the_other_ten_seconds_later() -> None:
    folding = Folding()
    folding.observe(0, {"kv": False, "inflight": False}, hold=False)
    for t in range(1, 60):
        folding.observe(t, {"kv": True, "inflight": True}, hold=False)
    assert folding.folded == {"kv", "inflight"}
    assert len(folding.observe(60, {"kv": False, "inflight": False}, hold=False)) == 1
    assert len(folding.observe(69.9, {"kv": False, "inflight": False}, hold=False)) == 1
    assert folding.observe(70, {"kv": False, "inflight": False}, hold=False) == set()


def test_nothing_changes_while_it_is_held() -> None:
    folding = Folding()
    folding.observe(0, {"kv": True}, hold=False)
    for t in range(1, 100):
        assert folding.observe(t, {"kv": False}, hold=True) == {"kv"}
    assert folding.observe(100, {"kv": False}, hold=False) == set()


def test_another_session_begins_anew() -> None:
    folding = Folding()
    folding.observe(500, {"kv": True}, hold=False)
    assert folding.observe(1, {"kv": False}, hold=False) == set()


@given(
    st.lists(
        st.tuples(st.floats(0.1, 20), st.dictionaries(st.sampled_from("abc"), st.booleans()), st.booleans()),
        max_size=60,
    )
)
def test_at_most_one_panel_that_has_spoken_changes_in_ten_seconds(
    steps: list[tuple[float, dict[str, bool], bool]],
) -> None:
    folding, t, changed_at = Folding(), 0.0, -APART_S
    seen: set[str] = set()
    unheard: set[str] = set()  # quiet when they were first seen, and ever since
    for dt, quiet, hold in steps:
        t += dt
        before = folding.folded
        after = folding.observe(t, quiet, hold=hold)
        unheard |= {name for name in set(quiet) - seen if quiet[name]}
        begin = set() if hold else {name for name in unheard if not quiet.get(name, True)}
        assert not begin & after, "first words unfold at once"
        changed = (before ^ after) - (set(quiet) - seen) - begin
        seen |= set(quiet)
        unheard -= begin
        if changed:
            assert len(changed) == 1
            assert not hold
            assert t - changed_at >= APART_S - 1e-9
            changed_at = t
