"""What one piece of JSON of an answer says: its error, its counts of tokens."""

from __future__ import annotations

import json
from typing import Any

import orjson

from rvtop.load.wire import timings
from rvtop.load.wire.record import Record
from rvtop.text import told

#: No count of tokens comes near this; a larger one is noise, and would not fit the tables.
_MAX_COUNT = 1 << 40


def failure_of(chunk: dict[str, Any]) -> str | None:
    """What an event or an answer says of an error, if it is one."""
    failure = chunk.get("error") or (chunk if chunk.get("object") == "error" else None)  # older vLLM's
    if not failure:
        return None
    text = failure.get("message") if isinstance(failure, dict) else None
    return told(text or failure)


def note_usage(record: Record, usage: dict[str, Any]) -> None:
    """Takes the counts of chat, completions, embeddings and rerank into ``record``."""
    record.output_tokens = count(usage.get("completion_tokens"), record.output_tokens)
    record.prompt_tokens = count(usage.get("prompt_tokens"), record.prompt_tokens)
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        record.cached_tokens = count(details.get("cached_tokens"), record.cached_tokens)
    record.server = timings.of_rvtop(usage.get("rvtop")) or record.server
    engine = (record.server or {}).get("engine")
    record.engine = engine if isinstance(engine, str) else record.engine


def parsed(data: bytes) -> Any:
    """What a piece of JSON says. Raises ValueError.

    Servers in Python and JavaScript write what orjson refuses: NaN for a logprob, half a surrogate pair.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            pass
        raise


def count(value: Any, otherwise: int | None) -> int | None:
    """``value`` if it is a sound count of tokens, else ``otherwise``."""
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT
    return value if sound else otherwise
