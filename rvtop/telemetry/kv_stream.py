"""The batches of one publisher of KV events in their order: what is missing is asked for again, or told as
lost.

Pure: payloads and sequence numbers in. vLLM numbers batches from 0 and keeps the last ones (10 000 by
default) for whoever asks; without a replay endpoint what is lost stays lost, and the map is incomplete until
the engine says that its cache is empty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rvtop.stats.block_map import BlockMap, Key
from rvtop.stats.kv_map import EngineMap
from rvtop.telemetry.kv_decode import OWN, BadBatch, BlockRemoved, BlockStored, decode, keys_of, parent_of

#: Batches that may wait for a replay to end.
MOST_HELD = 20_000

#: Gets (kind of beginning, first key, parent) of each request that is seen to begin.
OnBegin = Callable[[str, Key, Key | None], None]


class KvStream:
    """``map`` is what its batches add up to. ``can_replay``: there is someone to ask for those that are
    missing; ``ask_from`` is then the first one wanted, until `asked`."""

    def __init__(
        self,
        name: str,
        *,
        can_replay: bool,
        on_begin: OnBegin | None = None,
        map_: BlockMap | None = None,
    ) -> None:
        self.name = name
        self.map = BlockMap() if map_ is None else map_
        self.ask_from: int | None = None
        self.lost = self.replayed = self.restarts = self.bad = 0
        self.replaying = False
        self._can_replay = can_replay
        self._on_begin = on_begin
        self._next = 0
        self._last_live = -1
        self._held: list[tuple[int, bytes]] = []
        self._reconnected = False
        self._missing = 0  # batches, since the cache was empty
        if can_replay:
            self._ask()

    # -- what comes in -----------------------------------------------------------------------

    def live(self, seq: int, payload: bytes) -> None:
        """A batch as it is published."""
        if seq == self._next and seq > self._last_live and not self.replaying:  # as nearly all
            self._last_live, self._reconnected = seq, False
            self._next_one(seq, payload)
            return
        restarted = seq <= self._last_live or (self._reconnected and seq != self._next and not self.replaying)
        self._last_live, self._reconnected = seq, False
        if restarted:
            self._restart()
        if self.replaying:
            self._held.append((seq, payload))
            if len(self._held) > MOST_HELD:
                self.replay_over()
            return
        if seq > self._next and self._can_replay:
            self._held.append((seq, payload))
            self._ask()
            return
        self._next_one(seq, payload)

    def again(self, seq: int, payload: bytes) -> None:
        """A batch that was asked for."""
        if self.replaying and seq >= self._next:
            self.replayed += 1
            self._next_one(seq, payload)

    def replay_over(self) -> None:
        """All that could be had was sent, or it took too long: what came meanwhile counts now."""
        self.replaying, self.ask_from = False, None
        held, self._held = self._held, []
        for seq, payload in held:
            self._next_one(seq, payload)
        self.map.forget_rates()

    def asked(self) -> None:
        """What was wanted is asked for."""
        self.ask_from = None

    def reconnected(self) -> None:
        """The connection was lost and is there again: perhaps another engine answers at the same place."""
        self._reconnected = True

    # -- what there is -----------------------------------------------------------------------

    @property
    def heard(self) -> bool:
        """Whether any batch came."""
        return self._last_live >= 0 or self.replayed > 0

    @property
    def batches(self) -> int:
        """How many the publisher has numbered, as far as is known."""
        return self._next

    @property
    def complete(self) -> bool:
        """Whether no batch is missing since the cache was empty."""
        clean = not (self._missing or self.map.refused)
        return clean and not self.replaying and (self.heard or self._can_replay)

    def why(self) -> str:
        """What is missing, in a few words; empty where the map is complete."""
        if self.replaying:
            return "asks for what was before"
        if self._missing:
            lost = f"{self._missing} batch{'es' if self._missing > 1 else ''} lost"
            return f"{lost}: incomplete until the cache is reset"
        if self.map.refused:
            return f"{self.map.refused} blocks more than rvtop holds"
        return "" if self.complete else "no event yet: what is cached is not known"

    def picture(self, now_s: float) -> EngineMap:
        """The map now, with what is known of its gaps."""
        return replace(
            self.map.picture(self.name, now_s),
            lost=self.lost,
            replayed=self.replayed,
            restarts=self.restarts,
            complete=self.complete,
            why=self.why(),
        )

    # -- inside ------------------------------------------------------------------------------

    def _ask(self) -> None:
        self.replaying, self.ask_from = True, self._next

    def _restart(self) -> None:
        """Another engine numbers from 0."""
        self.restarts += 1
        self.map.clear()
        self._next = self._missing = 0
        self._held.clear()
        self.replaying = False

    def _next_one(self, seq: int, payload: bytes) -> None:
        """Applies a batch; those between it and the one before are lost, one from before was applied
        already."""
        if seq < self._next:
            return
        gap, self._next = seq - self._next, seq + 1
        if gap:
            self.lost += gap
            self._missing += gap
        try:
            batch = decode(payload)
        except BadBatch:
            self.bad += 1
            self.lost += 1
            self._missing += 1
            return
        blocks, at_s = self.map, batch.ts
        for event in batch.events:  # thousands a second: no call more than is needed
            if type(event) is BlockStored:
                if event.medium in OWN:
                    keys, parent = keys_of(event), parent_of(event)
                    began = blocks.store(keys, parent, event.block_size, at_s)
                    if began is not None and self._on_begin is not None:
                        self._on_begin(began, keys[0], parent)
            elif type(event) is BlockRemoved:
                if event.medium in OWN:
                    blocks.remove(keys_of(event) if event.group_idx else event.block_hashes)
            else:
                blocks.clear()
                self._missing = 0
