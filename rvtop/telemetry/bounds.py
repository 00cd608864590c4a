"""How much of what servers tell is taken in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

#: Engines, GPUs, nodes or deployments that are told apart, of each so many; the rest is left out, and said.
MOST = 1024
#: Values of the label that splits a figure that are told apart on a page and its successors; vLLM has three.
MOST_VALUES = 16
#: No figure of a server comes near this (bytes of all its memory, tokens of all its life).
_LARGEST = 1e15

_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


def is_figure(value: float) -> bool:
    """Whether a series' value can be what it says: no figure here is negative, infinite or NaN."""
    return 0.0 <= value <= _LARGEST


def fitting(
    items: Sequence[_Item], known: Collection[_Key], key_of: Callable[[_Item], _Key]
) -> tuple[_Item, ...]:
    """The items that are known, and new ones up to ``MOST`` in all."""
    room = MOST - len(known)
    kept = []
    for item in items:
        if key_of(item) not in known:
            if room <= 0:
                continue
            room -= 1
        kept.append(item)
    return tuple(kept)
