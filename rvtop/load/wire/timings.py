"""What a server tells of the time of one request, as ``server`` of its line in ``requests.jsonl``. It is
what others sent: small and printable is what is kept of it."""

from __future__ import annotations

from typing import Any

from rvtop.load.wire.record import TEXT_LIMIT
from rvtop.stats.typical import VLLM
from rvtop.text import printable

_MOST = 32
#: No time and no count comes near; a number beyond does not fit into a line of the log.
_LARGEST = 1 << 53
#: vLLM's names (``PerRequestMetrics`` in vllm/entrypoints/generate/base/protocol.py of 0.29) and ours. Its
#: time to first token starts at scheduling, so it is the prefill.
_VLLM = (
    ("queue_time_ms", "queue_ms"),
    ("time_to_first_token_ms", "prefill_ms"),
    ("generation_time_ms", "decode_ms"),
)


def of_rvtop(told: Any) -> dict[str, Any] | None:
    """Of ``usage.rvtop``, by which our backends tell it: flat, and kept as it is."""
    if not isinstance(told, dict):
        return None
    small = [(key, value) for key, value in told.items() if _is_small(key) and _is_small(value)]
    return {printable(key): _shown(value) for key, value in small[:_MOST]}


def of_vllm(told: Any) -> dict[str, Any] | None:
    """Of ``metrics`` in vLLM's last chunk, which it has with ``--enable-per-request-metrics``."""
    if not isinstance(told, dict):
        return None
    known = {ours: told.get(theirs) for theirs, ours in _VLLM}
    numbers = {k: v for k, v in known.items() if isinstance(v, int | float) and _is_small(v)}
    return {**numbers, "source": VLLM} if numbers else None


def _shown(value: Any) -> Any:
    return printable(value, TEXT_LIMIT) if isinstance(value, str) else value


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT_LIMIT
    return value is None or (isinstance(value, int | float) and abs(value) <= _LARGEST)  # NaN is not
