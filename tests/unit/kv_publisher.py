"""KV events as vLLM sends them, made without it: the same bytes, and sockets that behave as its
publisher's."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

#: Token ids that stand in every stored event, and must be nowhere else.
SECRET = 123_454_321


def stored(names: str, parent: str | None = None, *, medium: str = "GPU", group: int = 0) -> dict[str, Any]:
    """A stored event; its fields are those of vLLM 0.29."""
    keys = names.split()
    return {
        "type": "BlockStored",
        "block_hashes": [key.encode() for key in keys],
        "parent_block_hash": parent.encode() if parent else None,
        "token_ids": [SECRET] * 16 * len(keys),
        "block_size": 16,
        "lora_id": None,
        "medium": medium,
        "lora_name": None,
        "extra_keys": [[f"salt {SECRET}"] for _ in keys],
        "group_idx": group,
    }


def removed(names: str) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": [n.encode() for n in names.split()], "medium": "GPU"}


CLEARED = {"type": "AllBlocksCleared"}


def batch(*events: dict[str, Any], at_s: float = 1.0) -> bytes:
    """A batch on the wire: an array of time, events and the data-parallel rank."""
    return msgspec.msgpack.encode([at_s, list(events), 0])


class Publisher:
    """``publish`` sends and numbers, ``skip`` numbers alone: that batch is lost on the way. It keeps the last
    ``keeps`` for whoever asks at ``replay``."""

    def __init__(self, folder: Path, name: str = "pub", *, keeps: int = 100) -> None:
        self.url, self.replay = (f"ipc://{folder}/{name}{end}" for end in ("", "-replay"))
        self._context = zmq.Context()
        self._pub, self._router = self._context.socket(zmq.XPUB), self._context.socket(zmq.ROUTER)
        self._pub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._pub.bind(self.url)
        self._router.bind(self.replay)
        self._kept: list[tuple[int, bytes]] = []
        self._keeps = keeps
        self._next = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def until_joined(self) -> None:
        """Returns when a subscriber is there."""
        assert self._pub.poll(60_000), "nobody subscribes"
        self._pub.recv()

    def publish(self, *events: dict[str, Any], at_s: float = 1.0) -> None:
        payload = batch(*events, at_s=at_s)
        self._pub.send_multipart([b"", self._next.to_bytes(8, "big"), payload])
        self._keep(payload)

    def skip(self, *events: dict[str, Any]) -> None:
        self._keep(batch(*events))

    def say(self, *frames: bytes) -> None:
        """A message that is not vLLM's."""
        self._pub.send_multipart(list(frames))

    def _keep(self, payload: bytes) -> None:
        self._kept = [*self._kept, (self._next, payload)][-self._keeps :]
        self._next += 1

    def _answer(self) -> None:
        while not self._over.is_set():
            if self._router.poll(20):
                asker, _, first = self._router.recv_multipart()
                for seq, payload in self._kept:
                    if seq >= int.from_bytes(first, "big"):
                        self._send(asker, b"", seq.to_bytes(8, "big"), payload)
                self._send(asker, b"", (-1).to_bytes(8, "big", signed=True), b"")

    def _send(self, asker: bytes, *frames: bytes) -> None:
        self._router.send_multipart([asker, b"", *frames])

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._context.destroy(linger=0)


def payloads(batches: Sequence[Sequence[dict[str, Any]]]) -> list[bytes]:
    return [batch(*events) for events in batches]
