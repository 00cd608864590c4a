"""Several replicas: how often the one that held a request's longest beginning got the request."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.stats.block_map import HIT, BlockMap, Key
from rvtop.stats.kv_map import Locality


class LocalityCount:
    """Counts over the maps of all replicas of one model, in the order in which their events come in.

    A request is seen when it stores a block that its engine had not. An engine that holds that first new
    block held a longer beginning than the one that computed it. What can't be seen: requests that found all
    of their prompt, the first request that goes on from a beginning, requests whose blocks are in no cache,
    and why a router chose as it did. Engines tell of a block a moment after they computed it, so that of two
    requests in the same moment the second may be judged by what the first has just left.
    """

    def __init__(self, maps: Sequence[BlockMap]) -> None:
        self._maps = maps
        self._offered = self._taken = 0
        self._comparable = False

    def see(self, engine: BlockMap, began: str, first: Key, parent: Key | None) -> None:
        """A request began at ``engine``; ``began`` and the keys are those of the event."""
        others = [one for one in self._maps if one is not engine]
        longer = any(first in one for one in others)
        if longer or (parent is not None and any(parent in one for one in others)):
            self._comparable = True
        if began == HIT or longer:
            self._offered += 1
            self._taken += not longer

    def picture(self) -> Locality:
        """The counts so far."""
        return Locality(self._offered, self._taken, self._comparable)
