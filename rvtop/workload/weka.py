"""Sessions of coding agents as hash blocks (Weka's kv-cache-tester): a JSON object each, a line of ``.jsonl``
or the whole of a ``.json`` file.

``{"id", "block_size", "requests": [{"t", "in", "out", "hash_ids", "api_time"?, "type"?}, …]}``; a request of
type ``subagent`` has ``requests`` of its own, whose times are those of the session or count from its own.
Times are seconds. Names of blocks hold within their session (``hash_id_scope: local``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from rvtop.workload.rows import WorkloadError
from rvtop.workload.sessions import Call, Session, session

_MOST_TOKENS = 10_000_000
_MOST_BLOCK = 1_000_000
_BOM = b"\xef\xbb\xbf"


def read(path: Path) -> Iterator[Session]:
    """Sessions in the file's order. Raises WorkloadError: file, line, what is wrong."""
    with path.open("rb") as file:
        lines = enumerate(file, 1) if path.suffix == ".jsonl" else [(1, file.read())]
        for number, line in lines:
            if not line.strip():
                continue
            try:
                yield _session(orjson.loads(line.removeprefix(_BOM)), f"session-{number}")
            except orjson.JSONDecodeError as error:
                raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error
            except ValueError as problem:
                raise WorkloadError(f"{path}:{number}: {problem}") from None


def _session(row: object, name: str) -> Session:
    if not isinstance(row, dict) or not isinstance(row.get("requests"), list):
        raise ValueError('must be {"id": …, "block_size": …, "requests": […]}')
    name = str(row.get("id") or name)
    block = row.get("block_size", 64)
    if type(block) is not int or not 1 <= block <= _MOST_BLOCK:
        raise ValueError(f"block_size: must be a whole number from 1 to {_MOST_BLOCK:,}, got {block!r}")
    local = row.get("hash_id_scope", "local") == "local"
    calls = list(_calls(row["requests"], name if local else "", block, (), 0.0, "requests"))
    if not calls:
        raise ValueError("requests: holds none with a prompt and an answer")
    return session(name, calls, block)


def _calls(
    requests: list[Any], names: str, block: int, scope: tuple[str, ...], base_s: float, where: str
) -> Iterator[Call]:
    """``base_s``: when the clock of these requests began."""
    for number, one in enumerate(requests):
        here = f"{where}[{number}]"
        if not isinstance(one, dict):
            raise ValueError(f'{here}: must be {{"t": …, "in": …, "out": …, "hash_ids": […]}}')
        start_s = base_s + _seconds(one, "t", here)
        if one.get("type") == "subagent":
            inner = one.get("requests")
            if not isinstance(inner, list):
                raise ValueError(f"{here}.requests: must be a list")
            times = [_seconds(each, "t", here) for each in inner if isinstance(each, dict)]
            own_clock = bool(times) and base_s + times[0] < start_s
            part = (*scope, f"{here} {one.get('agent_id')}")
            yield from _calls(inner, names, block, part, start_s if own_clock else base_s, f"{here}.requests")
            continue
        prompt, output = (_tokens(one, key, here) for key in ("in", "out"))
        ids = one.get("hash_ids") or []
        if not isinstance(ids, list) or any(type(name) not in (int, str) for name in ids):
            raise ValueError(f"{here}.hash_ids: must be a list of numbers")
        if len(ids) * block > prompt + block - 1:
            raise ValueError(
                f"{here}.hash_ids: {len(ids)} blocks of {block} are more than its {prompt} tokens; "
                "block_size says another size"
            )
        if prompt and output:
            took_s = 0.0 if one.get("api_time") is None else _seconds(one, "api_time", here)
            blocks = _named(ids, prompt, block, names, here)
            yield Call(start_s, start_s + took_s, prompt, output, blocks, scope=scope)


def _named(ids: list[Any], prompt: int, block: int, names: str, here: str) -> list[str]:
    """Names of all of a prompt's blocks: what the ids leave out at its end is text of its own."""
    missing = -(-prompt // block) - len(ids) if ids else 0
    return [f"{names}/{name}" for name in ids] + [f"{names}/{here}/{i}" for i in range(missing)]


def _seconds(row: Mapping[str, Any], key: str, where: str) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e11:
        raise ValueError(f"{where}.{key}: must be a number of seconds, got {value!r}")
    return float(value)


def _tokens(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
        raise ValueError(f"{where}.{key}: must be a whole number from 0 to {_MOST_TOKENS:,}, got {value!r}")
    return value
