"""What is in an engine's prefix cache, from vLLM's KV events: blocks stored less blocks removed, by their
hash.

Pure: keys, numbers and times in, pictures out. A key is a block's hash, which stands for the block and all
that is before it; no token is ever handed in. vLLM tells of a block when it is full, and when it is evicted:

- The same hash may be stored twice, by requests that were computed side by side; then it is held twice, and
  removed twice (``vllm/v1/core/block_pool.py``, ``BlockHashToBlockMap``).
- A request that finds all of its prompt says nothing. One that finds a beginning tells of what follows it,
  with that beginning as parent; so does the next part of the request that made the parent. Only a *second*
  different block behind a parent is surely another request's. Hits are therefore counted at least, never
  most.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from math import inf

import numpy as np

from rvtop.stats.kv_map import (
    AGE_EDGES_S,
    SHARE_EDGES,
    STORM_BACK,
    STORM_BLOCKS,
    STORM_S,
    STORM_SHARE,
    EngineMap,
    Prefix,
)

#: A hash as vLLM sends it, with the number of its cache group where that is not the first.
Key = bytes | int | tuple[bytes | int, int]

#: More blocks than any engine has; what is beyond is not held, and the map says so.
MOST_BLOCKS = 1 << 22
#: Evicted hashes that are remembered, to know those that come back.
MOST_GONE = 1 << 16
#: Prefixes that are listed.
MOST_PREFIXES = 12

#: What a stored event says of a request.
COLD, HIT = "cold", "hit"


class BlockMap:
    """The blocks of one engine. Times are seconds of one clock (Unix)."""

    def __init__(self) -> None:
        self.stored = self.evicted = self.back = 0
        self.strays = 0  # removed, though they were never stored
        self.refused = 0  # beyond MOST_BLOCKS
        self.requests = self.hits = 0
        self.block_tokens: int | None = None
        self._looks: deque[tuple[float, int, int, int]] = deque()  # time, stored, evicted, back
        self.clear()

    def clear(self) -> None:
        """All blocks are gone; the counters stay."""
        self._slots: dict[Key, int] = {}
        self._free: list[int] = []
        # By slot; the generation tells a block from the next one in its slot.
        self._born = array("d")
        self._shares = array("i")  # requests seen through it
        self._parents = array("i")
        self._parent_generations = array("I")
        self._generations = array("I")
        self._children = array("i")
        self._depths = array("i")  # blocks before it; -1: not known
        self._copies: dict[Key, int] = {}  # further ones, of keys that are held more than once
        self._pending: dict[
            int, int
        ] = {}  # requests that branched off a slot, not added to its beginning yet
        self._ends: set[int] = set()  # slots off which requests branched
        self._gone: OrderedDict[Key, None] = OrderedDict()  # evicted, the oldest first

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: Key) -> bool:
        return key in self._slots

    def copies(self) -> dict[Key, int]:
        """How often each block is held: vLLM's own map of cached blocks, as numbers."""
        return {key: 1 + self._copies.get(key, 0) for key in self._slots}

    # -- events ------------------------------------------------------------------------------

    def store(self, keys: Sequence[Key], parent: Key | None, tokens: int, at_s: float) -> str | None:
        """Blocks in their order, behind ``parent`` (None: they begin a prompt), of ``tokens`` each. Returns
        COLD where a request surely begins without a cached beginning, HIT where it has one, else None."""
        if not keys:
            return None
        slots, children = self._slots, self._children
        above = -1 if parent is None else slots.get(parent, -1)
        began = None
        if parent is None:
            began = COLD
            self.requests += 1
        elif above >= 0 and children[above] and keys[0] not in slots and parent not in self._copies:
            began = HIT
            self.requests += 1
            self.hits += 1
            self._pending[above] = self._pending.get(above, 0) + 1
            self._ends.add(above)
        depth = (
            0 if parent is None else -1 if above < 0 or self._depths[above] < 0 else self._depths[above] + 1
        )
        self.block_tokens = tokens
        for key in keys:
            slot = slots.get(key, -1)
            if slot >= 0:
                self._copies[key] = self._copies.get(key, 0) + 1
            elif len(slots) >= MOST_BLOCKS:
                self.refused += 1
                continue
            else:
                slot = self._take(key, above, depth, at_s)
            self.stored += 1
            if key in self._gone:
                self.back += 1
                del self._gone[key]
            above = slot
            if depth >= 0:
                depth += 1
        return began

    def _take(self, key: Key, above: int, depth: int, at_s: float) -> int:
        """A slot for a new block."""
        if self._free:
            slot = self._free.pop()
            self._born[slot], self._shares[slot], self._depths[slot] = at_s, 1, depth
        else:
            slot = len(self._born)
            self._born.append(at_s)
            self._shares.append(1)
            self._depths.append(depth)
            self._children.append(0)
            self._generations.append(0)
            self._parents.append(-1)
            self._parent_generations.append(0)
        self._slots[key] = slot
        self._parents[slot] = above
        if above >= 0:
            self._parent_generations[slot] = self._generations[above]
            self._children[above] += 1
        return slot

    def remove(self, keys: Iterable[Key]) -> None:
        """Blocks are evicted."""
        for key in keys:
            more = self._copies.get(key, 0) if self._copies else 0
            if more:
                if more > 1:
                    self._copies[key] = more - 1
                else:
                    del self._copies[key]
                self.evicted += 1
                continue
            slot = self._slots.pop(key, -1)
            if slot < 0:
                self.strays += 1
                continue
            if slot in self._ends:
                self._settle(slot)
                self._ends.discard(slot)
            above, generations = self._parents[slot], self._generations
            if above >= 0 and generations[above] == self._parent_generations[slot]:
                self._children[above] -= 1
            generations[slot] = (generations[slot] + 1) & 0xFFFFFFFF
            self._children[slot] = 0
            self._born[slot] = inf
            self._free.append(slot)
            self.evicted += 1
            self._gone[key] = None
            if len(self._gone) > MOST_GONE:
                self._gone.popitem(last=False)

    def _parent(self, slot: int) -> int:
        """The slot of the block before it; -1 where that is not held any more, or there is none."""
        above = self._parents[slot]
        held = above >= 0 and self._generations[above] == self._parent_generations[slot]
        return above if held else -1

    def _settle(self, slot: int) -> None:
        """Adds the requests that branched off a block to all that is before it."""
        more = self._pending.pop(slot, 0)
        while more and slot >= 0:
            self._shares[slot] += more
            slot = self._parent(slot)

    # -- pictures ----------------------------------------------------------------------------

    def forget_rates(self) -> None:
        """Rates begin anew: what came was not of now."""
        self._looks.clear()

    def picture(self, name: str, now_s: float) -> EngineMap:
        """What there is now; rates are those since the look before, so look about once a second."""
        for slot in list(self._pending):
            self._settle(slot)
        looks = self._looks
        looks.append((now_s, self.stored, self.evicted, self.back))
        while len(looks) > 2 and now_s - looks[1][0] >= STORM_S:
            looks.popleft()
        heat, shared = self._heat(now_s)
        stored_per_s, evicted_per_s = self._rates()
        recent_stored, recent_evicted, recent_back = (
            b - a for a, b in zip(looks[0][1:], looks[-1][1:], strict=True)
        )
        return EngineMap(
            name=name,
            cached=len(self._slots),
            copies=sum(self._copies.values()),
            shared=shared,
            block_tokens=self.block_tokens,
            stored_per_s=stored_per_s,
            evicted_per_s=evicted_per_s,
            back_share=recent_back / recent_stored if recent_stored else None,
            storm=recent_evicted >= max(STORM_BLOCKS, STORM_SHARE * len(self._slots))
            and recent_back >= STORM_BACK * max(1, recent_stored),
            requests=self.requests,
            hits=self.hits,
            heat=heat,
            prefixes=self._prefixes(now_s),
        )

    def _rates(self) -> tuple[float | None, float | None]:
        """Blocks stored and evicted a second, since the look before."""
        if len(self._looks) < 2:
            return None, None
        (before_s, stored, evicted, _), (now_s, stored_now, evicted_now, _) = self._looks[-2], self._looks[-1]
        took = now_s - before_s
        if took <= 0:
            return None, None
        return (stored_now - stored) / took, (evicted_now - evicted) / took

    def _heat(self, now_s: float) -> tuple[tuple[tuple[int, ...], ...], int]:
        """Blocks by requests and age, and how many have more than one request."""
        columns = len(AGE_EDGES_S) + 1
        born = np.frombuffer(self._born, np.float64) if self._born else np.empty(0)
        held = np.isfinite(born)
        shares = (np.frombuffer(self._shares, np.int32) if self._shares else np.empty(0, np.int32))[held]
        # A clock of another machine may be ahead.
        column = np.searchsorted(AGE_EDGES_S, np.maximum(now_s - born[held], 0.0), side="right")
        row = np.searchsorted(SHARE_EDGES, shares, side="right") - 1
        counts = np.bincount(row * columns + column, minlength=len(SHARE_EDGES) * columns)
        table = counts.reshape(len(SHARE_EDGES), columns)
        return tuple(tuple(line) for line in table.tolist()), int((shares > 1).sum())

    def _prefixes(self, now_s: float) -> tuple[Prefix, ...]:
        """The beginnings that most requests use, as a tree: each one before those that go on from it."""
        chosen = heapq.nlargest(MOST_PREFIXES, self._ends, key=lambda slot: (self._shares[slot], -slot))
        before: dict[int, int] = {}
        for slot in chosen:
            above = self._parent(slot)
            while above >= 0 and above not in chosen:
                above = self._parent(above)
            before[slot] = above
        made: list[Prefix] = []

        def add(parent: int, level: int) -> None:
            for slot in chosen:
                if before[slot] == parent:
                    made.append(self._prefix(slot, level, now_s))
                    add(slot, level + 1)

        add(-1, 0)
        return tuple(made)

    def _prefix(self, slot: int, level: int, now_s: float) -> Prefix:
        depth, requests = self._depths[slot], self._shares[slot]
        share = (requests - 1) / self.requests if self.requests else None
        age_s = max(0.0, now_s - self._born[slot])
        return Prefix(level, None if depth < 0 else depth + 1, requests, self._children[slot], share, age_s)
