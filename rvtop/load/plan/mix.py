"""Which model a request goes to: each in turn, or by shares. Pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


class Mix:
    """Shares of so many models, drawn by ``seed``: the same for the same seed, however many workers share the
    load. Without ``shares`` (relative, one for each model) the models are sent to in turn."""

    def __init__(self, shares: Sequence[float], seed: int) -> None:
        total = sum(shares)
        self._upto = [part / total for part in accumulate(shares)]
        self._seed = seed

    def of(self, number: int, models: int) -> tuple[int, int]:
        """The place of request ``number``'s model among so many, and which prompt it is for that model. In
        turn, each model gets the same prompts. By shares, requests take the prompts one after another."""
        if len(self._upto) != models:  # none
            return number % models, number // models
        digest = hashlib.blake2b(b"%d/model/%d" % (self._seed, number), digest_size=8).digest()
        return min(models - 1, bisect_right(self._upto, int.from_bytes(digest) / 2**64)), number
