"""vLLM's KV events off the wire (``vllm/distributed/kv_events.py``): what of them is read, and what never is.

The token ids of a block are prompt text, and so may be its extra keys (cache salts, names of adapters). The
types here have no field for them: the decoder skips their bytes, and no object is ever made of them.

Imports msgspec, which vLLM brings: only where events are read.
"""

from __future__ import annotations

import msgspec

from rvtop.stats.block_map import Key

#: Where blocks lie that are in the engine's own cache; others are offloaded ones.
OWN = (None, "GPU")


class BlockStored(msgspec.Struct, tag=True, gc=False):
    """Blocks became full."""

    block_hashes: list[bytes | int]
    block_size: int
    parent_block_hash: bytes | int | None = None
    medium: str | None = None
    group_idx: int | None = None


class BlockRemoved(msgspec.Struct, tag=True, gc=False):
    """Blocks were evicted."""

    block_hashes: list[bytes | int]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag=True, gc=False):
    """The cache was reset."""


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared


class Batch(msgspec.Struct, array_like=True, gc=False):
    """What one step of the engine published: ``ts`` in Unix seconds, of the engine's clock."""

    ts: float
    events: list[KvEvent]


_DECODER = msgspec.msgpack.Decoder(Batch)


class BadBatch(ValueError):
    """Bytes that are no batch of KV events. ``str()`` says why, and holds nothing of them."""


def decode(payload: bytes) -> Batch:
    """A batch, without its tokens. Raises BadBatch."""
    try:
        return _DECODER.decode(payload)
    except msgspec.ValidationError as error:  # names a field and types, no values
        raise BadBatch(str(error)) from None
    except (msgspec.DecodeError, ValueError):
        raise BadBatch("not MessagePack") from None


def keys_of(event: BlockStored | BlockRemoved) -> list[Key]:
    """The keys of its blocks: those of a further cache group (a model with several kinds of attention) have
    its number, since groups share hashes."""
    group = event.group_idx
    if not group:
        return event.block_hashes  # type: ignore[return-value]  # a list of one of Key's kinds
    return [(key, group) for key in event.block_hashes]


def parent_of(event: BlockStored) -> Key | None:
    """The key of the block before its first one."""
    parent = event.parent_block_hash
    return (parent, event.group_idx) if event.group_idx and parent is not None else parent
