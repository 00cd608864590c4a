"""Where an engine of vLLM publishes what it caches (``--kv-events``): Unix sockets in its own folder. Stdlib
only.

Not a port of this machine: vLLM's publisher listens only where its address is a wildcard or a Unix socket
(``ZmqEventPublisher._socket_setup``), it asks nobody for a key, and what it sends holds the token ids of
prompts. A private folder keeps other users out of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.errors import UsageError

ARGUMENT = "kv-events-config"


def sockets(folder: str | Path, engine: str = "") -> dict[str, str]:
    """The addresses of an engine: ``url`` publishes, ``replay`` answers what was missed. ``engine`` tells
    several in one folder apart."""
    stem = f"{folder}/{engine}.kv" if engine else f"{folder}/kv"
    return {"url": f"ipc://{stem}", "replay": f"ipc://{stem}-replay"}


def argument(places: Mapping[str, str]) -> tuple[str, str]:
    """vLLM's argument for them."""
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": places["url"],
        "replay_endpoint": places["replay"],
    }
    return ARGUMENT, json.dumps(config)


def check(extra: Sequence[tuple[str, str]], wanted: bool) -> None:
    """Raises UsageError where vLLM's own argument is given beside the flag."""
    if wanted and ARGUMENT in [name for name, _ in extra]:
        raise UsageError("--kv-events: --engine-arg kv-events-config says the same; leave one of them out")
