"""The map of cached blocks: stored less removed, sharing, prefixes, storms, locality."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.stats.block_map import COLD, HIT, MOST_GONE, BlockMap
from rvtop.stats.kv_locality import LocalityCount
from rvtop.stats.kv_map import AGE_EDGES_S, SHARE_EDGES

E = 16


def names(text: str) -> list[bytes]:
    return [name.encode() for name in text.split()]


def test_stored_less_removed_is_what_is_held() -> None:
    blocks = BlockMap()
    assert blocks.store(names("a b c"), None, E, 0.0) == COLD
    blocks.remove(names("c"))
    assert blocks.copies() == {b"a": 1, b"b": 1}
    assert blocks.stored == 3
    assert blocks.evicted == 1


def test_a_block_that_is_stored_twice_is_removed_twice() -> None:
    """vLLM keeps both of two equal blocks that were computed side by side."""
    blocks = BlockMap()
    blocks.store(names("a b"), None, E, 0.0)
    blocks.store(names("a b"), None, E, 0.0)
    blocks.remove(names("b"))
    assert blocks.copies() == {b"a": 2, b"b": 1}
    assert blocks.picture("e", 1.0).copies == 1
    blocks.remove(names("b a a"))
    assert len(blocks) == 0


#: The tree of all prompts of two blocks' kinds and three lengths: ``parent`` of each key.
KEYS = [f"{first}{rest}".encode() for first in "xy" for rest in ("", "0", "1", "00", "01", "10", "11")]


@given(
    st.lists(
        st.tuples(st.sampled_from(("store", "remove", "clear")), st.integers(0, len(KEYS) - 1)), max_size=80
    )
)
def test_any_order_of_events_adds_up(steps: list[tuple[str, int]]) -> None:
    """Against a plain count; parents may be gone before their children, and children before any parent."""
    blocks, counted, at_s = BlockMap(), Counter[bytes](), 0.0
    for what, number in steps:
        key, at_s = KEYS[number], at_s + 1.0
        if what == "store":
            blocks.store([key], key[:-1] or None, E, at_s)
            counted[key] += 1
        elif what == "remove":
            blocks.remove([key])
            counted[key] -= counted[key] > 0
        elif number == 0:
            blocks.clear()
            counted.clear()
        held = +counted
        assert blocks.copies() == held
        picture = blocks.picture("e", at_s)
        assert picture.cached == len(held) == sum(map(sum, picture.heat))
        assert picture.copies == held.total() - len(held)
        assert all(prefix.requests > 1 for prefix in picture.prefixes)


def test_requests_that_share_a_beginning() -> None:
    """Three requests with a beginning of two blocks; two of them share a third. The first that goes on from a
    block may be the request that made it, so that only the second is counted."""
    blocks = BlockMap()
    blocks.store(names("s t"), None, E, 0.0)
    assert blocks.store(names("u a"), b"t", E, 1.0) is None  # the same request, or another
    assert blocks.store(names("b"), b"t", E, 2.0) == HIT
    assert blocks.store(names("c"), b"u", E, 3.0) == HIT
    picture = blocks.picture("e", 10.0)
    assert (picture.requests, picture.hits, picture.hit_share) == (3, 2, pytest.approx(2 / 3))
    first, second = picture.prefixes
    assert (first.level, first.blocks, first.requests, first.branches) == (0, 2, 3, 2)
    assert (second.level, second.blocks, second.requests, second.branches) == (1, 3, 2, 2)
    assert first.share == picture.top_share == pytest.approx(2 / 3)
    assert first.age_s == 10.0
    assert picture.shared == 3  # s, t, u


def test_heat_by_requests_and_age() -> None:
    blocks = BlockMap()
    blocks.store(names("s"), None, E, 0.0)
    for number in range(6):
        blocks.store([f"k{number}".encode()], b"s", E, 100.0)
    heat = np.array(blocks.picture("e", 100.5).heat)
    assert heat.shape == (len(SHARE_EDGES), len(AGE_EDGES_S) + 1)
    assert heat[0, 0] == 6  # one request each, younger than the first edge
    assert heat[SHARE_EDGES.index(5), AGE_EDGES_S.index(180.0)] == 1  # six requests, 60 to 180 s old
    assert heat.sum() == 7


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    blocks = BlockMap()
    blocks.store(names("a"), None, E, 50.0)
    assert blocks.picture("e", 10.0).heat[0][0] == 1


def test_what_is_behind_an_evicted_block_is_no_child_of_the_next_in_its_place() -> None:
    blocks = BlockMap()
    blocks.store(names("a b c"), None, E, 0.0)
    blocks.remove(names("a"))
    blocks.store(names("z"), None, E, 1.0)  # takes the place of a
    assert blocks.store(names("d"), b"z", E, 2.0) is None  # b is not its first child
    assert blocks.store(names("e"), b"b", E, 3.0) == HIT
    assert blocks.picture("e", 4.0).prefixes[0].blocks == 2  # as it was counted when it was stored


def test_a_beginning_whose_first_blocks_are_not_known() -> None:
    blocks = BlockMap()
    blocks.store(names("c"), b"unheard", E, 0.0)
    blocks.store(names("d"), b"c", E, 0.0)
    blocks.store(names("e"), b"c", E, 0.0)
    (prefix,) = blocks.picture("e", 1.0).prefixes
    assert prefix.blocks is None


def test_a_storm_and_what_comes_back() -> None:
    blocks = BlockMap()
    keys = [str(number).encode() for number in range(100)]
    blocks.store(keys, None, E, 0.0)
    calm = blocks.picture("e", 1.0)
    assert not calm.storm
    assert calm.evicted_per_s is None  # there is no look before
    blocks.remove(keys[50:])
    blocks.store(keys[50:60], keys[49], E, 2.0)
    stormy = blocks.picture("e", 3.0)
    assert stormy.storm
    assert stormy.evicted_per_s == 25.0
    assert stormy.back_share == 1.0  # all that was stored since had been there
    assert not blocks.picture("e", 20.0).storm  # ten seconds later


def test_blocks_that_make_room_for_others_are_no_storm() -> None:
    blocks = BlockMap()
    for turn in range(3):
        keys = [f"{turn}-{number}".encode() for number in range(100)]
        blocks.store(keys, None, E, float(turn))
        picture = blocks.picture("e", float(turn))
        blocks.remove(keys)
    assert picture.evicted_per_s == 100.0
    assert picture.back_share == 0.0
    assert not picture.storm


def test_evicted_hashes_that_are_remembered_have_an_end() -> None:
    blocks = BlockMap()
    keys = [str(number).encode() for number in range(MOST_GONE + 10)]
    for key in keys:
        blocks.store([key], None, E, 0.0)
        blocks.remove([key])
    assert len(blocks._gone) == MOST_GONE


def test_more_blocks_than_are_held_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvtop.stats.block_map.MOST_BLOCKS", 2)
    blocks = BlockMap()
    blocks.store(names("a b c d"), None, E, 0.0)
    assert (len(blocks), blocks.refused) == (2, 2)


class Replicas:
    """Two engines and what is counted of them."""

    def __init__(self) -> None:
        self.maps = [BlockMap(), BlockMap()]
        self.count = LocalityCount(self.maps)

    def store(self, engine: int, keys: str, parent: str | None = None) -> None:
        above = parent.encode() if parent else None
        began = self.maps[engine].store(names(keys), above, E, 0.0)
        if began is not None:
            self.count.see(self.maps[engine], began, names(keys)[0], above)

    @property
    def figures(self) -> tuple[int, int, float | None]:
        made = self.count.picture()
        return made.offered, made.taken, made.share


def test_locality_offered_and_taken() -> None:
    two = Replicas()
    two.store(0, "s t a")
    assert two.figures == (0, 0, None)  # no engine had anything of it
    two.store(0, "b", "t")
    assert two.figures == (1, 1, None)  # no block is in both: their hashes may differ
    two.store(1, "s t c")  # engine 0 had s and t
    assert two.figures == (2, 1, pytest.approx(1 / 2))
    two.store(1, "d", "t")  # both have s t
    assert two.figures == (3, 2, pytest.approx(2 / 3))
    two.store(1, "b", "t")  # engine 0 has b too
    assert two.figures == (4, 2, pytest.approx(1 / 2))
