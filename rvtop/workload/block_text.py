"""Made-up prompts of recorded lengths, in which equal hash blocks are equal text."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from functools import lru_cache

from rvtop.workload.synthetic import Phrases

_BLOCKS_KEPT = 8192


class BlockText:
    """``block_tokens``: the length of a block. The same seed and names give the same text."""

    def __init__(self, seed: int, block_tokens: int) -> None:
        self._block = block_tokens
        self._own = random.Random(seed)
        self._phrases = Phrases(seed)

        @lru_cache(_BLOCKS_KEPT)
        def words(name: Hashable) -> str:
            return self._phrases.text(block_tokens, random.Random(f"{seed}/block/{name}"))

        self._words = words

    def prompt(self, tokens: int, blocks: Sequence[Hashable] = ()) -> str:
        """About ``tokens`` tokens: of its ``blocks``, as far as they reach, or with no text that another has.
        Of the last block only its beginning: requests that share a longer one share this too."""
        blocks = blocks[: -(-tokens // self._block)]
        if not blocks:
            return self._phrases.text(tokens, self._own)
        pieces = [self._words(name) for name in blocks]
        pieces[-1] = " ".join(pieces[-1].split()[: tokens - self._block * (len(blocks) - 1)])
        return " ".join(pieces)
