"""Made-up prompts of recorded lengths, in which equal hash blocks are equal text."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rvtop.workload.synthetic import Phrases

_BLOCKS_KEPT = 8192


def block_ids(row: Mapping[str, Any], tokens: int, block_tokens: int) -> list[object]:
    """``hash_ids`` of a trace's row whose prompt has so many ``tokens``: one a block, or none at all. Raises
    ValueError."""
    ids = row.get("hash_ids") or []
    if not isinstance(ids, list) or any(type(one) not in (int, str) for one in ids):
        raise ValueError("hash_ids: must be a list of numbers")
    blocks = -(-tokens // block_tokens)
    if ids and len(ids) != blocks:
        raise ValueError(
            f"hash_ids: {tokens} tokens make {blocks} blocks of {block_tokens}, but there are {len(ids)} ids"
            " (workload.block_tokens sets another block size)"
        )
    return ids


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
