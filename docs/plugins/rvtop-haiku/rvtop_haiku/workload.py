"""The workload: `workload: {kind: plugin, name: haiku, options: {count: 8}}` in a scenario."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

SEASONS = ("spring", "summer", "autumn", "winter")


def prompts(options: Mapping[str, Any], seed: int) -> Iterator[str]:
    """Texts, each a user's message; or rows of prompts.jsonl as mappings. The same for the same seed."""
    chosen = random.Random(seed)
    for number in range(int(options.get("count", 8))):
        yield f"{number + 1}. A haiku about {chosen.choice(SEASONS)}, please."
