"""AIPerf's data sets (``.jsonl``), by the keys of each line:

- single turn: ``{"text" | "texts", "timestamp"?, "output_length"?}``; random pool: the same without times;
- multi turn: ``{"session_id"?, "turns": [{"text", "delay"?, "output_length"?}, …]}``;
- as Mooncake's: ``{"input_length" | "text_input" | "messages", "output_length"?, "hash_ids"?, "timestamp"?,
  "session_id"?, "delay"?}``. Lines of one ``session_id`` are one session.

Times are milliseconds. A session becomes a task: its next request comes ``delay`` after the answer, and holds
all that was said before. Lines with ``hash_ids``, ``messages`` (but for ``message_mode: delta``) or a
``session_id`` of a single turn are whole prompts as they stand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from rvtop.scenario.workload import DEFAULT_MAX_TOKENS
from rvtop.workload.block_text import BlockText, block_ids
from rvtop.workload.rows import WorkloadError, user

_MOST_TOKENS = 10_000_000
_MOST_MS = 1e9
_BOM = b"\xef\xbb\xbf"
_MEDIA = ("image", "images", "image_uuids", "audio", "audios", "video", "videos", "payload")


@dataclass(slots=True)
class _Asked:
    """A session, or a request alone (``session`` ""). ``at_ms`` None: at no time of its own."""

    session: str
    at_ms: float | None
    requests: list[dict[str, Any]] = field(default_factory=list)
    task: bool = False
    last_ms: float | None = None  # the timestamp of its last request


def rows(
    path: Path,
    seed: int,
    *,
    timed: bool,
    limit: int | None,
    block_tokens: int | None = None,
    start_s: float = 0.0,
) -> list[dict[str, Any]]:
    """Rows of ``prompts.jsonl``, in the file's order, or ``timed`` by their times from ``start_s`` after the
    first on; the first ``limit``. Raises WorkloadError: file, line, what is wrong."""
    found = list(_asked(path, BlockText(seed, block_tokens or 512), block_tokens or 512, timed))
    if timed:
        found.sort(key=lambda one: one.at_ms or 0.0)
        begin_ms = (found[0].at_ms or 0.0) + start_s * 1e3 if found else 0.0
        found = [one for one in found if (one.at_ms or 0.0) >= begin_ms]
    made = []
    for number, one in enumerate(islice(found, limit)):
        first, *rest = one.requests
        row = {"id": one.session or f"aiperf-{number}", **first}
        for key in ("tool_s", "whole"):
            row.pop(key, None)
        if one.task:
            row["steps"] = rest
        if timed:
            for request in (row, *rest):
                request.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
            row["at_s"] = round(((one.at_ms or 0.0) - (found[0].at_ms or 0.0)) / 1e3, 6)
        made.append(row)
    return made


def prompts(path: Path, kind: str, seed: int, count: int | None) -> Iterator[dict[str, Any]]:
    """The first ``count`` prompts of a file, or (``kind`` aiperf-pool) so many drawn from a random pool, some
    more than once; None: as many as it holds. Raises what :func:`rows` does."""
    if kind != "aiperf-pool":
        yield from rows(path, seed, timed=False, limit=count)
        return
    held = rows(path, seed, timed=False, limit=None)
    source = random.Random(f"{seed}/pool")
    for number in range((count or len(held)) if held else 0):
        yield source.choice(held) | {"id": f"pool-{number}"}


def _asked(path: Path, text: BlockText, block_tokens: int, timed: bool) -> Iterator[_Asked]:
    sessions: dict[str, _Asked] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = orjson.loads(line.removeprefix(_BOM))
                    new = _line(row, sessions, text, block_tokens)
                    if timed and new is not None and new.at_ms is None:
                        raise ValueError("timestamp: is missing; without times send it as kind: prompts")
                except orjson.JSONDecodeError as error:
                    raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error
                except ValueError as problem:
                    raise WorkloadError(f"{path}:{number}: {problem}") from None
                if new is not None:
                    yield new
    except OSError as error:
        raise WorkloadError(f"{path}: can't be read: {error}") from error


def _line(row: object, sessions: dict[str, _Asked], text: BlockText, block_tokens: int) -> _Asked | None:
    """What a line begins; None of one that goes on with a session that another began."""
    if not isinstance(row, dict):
        raise ValueError('must be an object with "text", "turns", "input_length", "text_input" or "messages"')
    name = row.get("session_id")
    if "turns" in row:
        turns = row["turns"]
        if not isinstance(turns, list) or not turns:
            raise ValueError("turns: must be a list that is not empty")
        asked = _Asked("" if name is None else str(name), None, task=len(turns) > 1)
        for number, turn in enumerate(turns):
            try:
                _add(asked, turn, text, block_tokens)
            except ValueError as problem:
                raise ValueError(f"turns[{number}]: {problem}") from None
        return asked
    if name is None:
        asked = _Asked("", None)
        _add(asked, row, text, block_tokens)
        return asked
    known = sessions.get(str(name))
    asked = known or sessions.setdefault(str(name), _Asked(str(name), None, task=True))
    _add(asked, row, text, block_tokens)
    if "text" in row or "texts" in row:
        asked.requests[-1]["whole"] = True
    return asked if known is None else None


def _add(asked: _Asked, row: object, text: BlockText, block_tokens: int) -> None:
    """Adds a request to a session."""
    if not isinstance(row, dict):
        raise ValueError("must be an object")
    for key in _MEDIA:
        if row.get(key):
            raise ValueError(f"{key}: rvtop sends text only; take such lines out")
    at_ms, delay_ms = (_ms(row, key) for key in ("timestamp", "delay"))
    messages, whole = _messages(row, text, block_tokens)
    request: dict[str, Any] = {"messages": messages}
    output = row.get("output_length")
    if output is not None:
        if type(output) is not int or not 1 <= output <= _MOST_TOKENS:
            raise ValueError(f"output_length: must be a whole number ≥ 1, got {output!r}")
        request["max_tokens"] = output
    if asked.requests:
        if delay_ms is None and at_ms is not None and asked.last_ms is not None:
            delay_ms = max(0.0, at_ms - asked.last_ms)
        request |= {"tool_s": (delay_ms or 0.0) / 1e3}
    else:
        asked.at_ms = at_ms
    if whole:
        request["whole"] = True
    asked.last_ms = at_ms
    asked.requests.append(request)


def _messages(row: Mapping[str, Any], text: BlockText, block_tokens: int) -> tuple[list[Any], bool]:
    """What a request says, and whether that is the whole prompt."""
    said = row.get("messages")
    if said is not None:
        if not isinstance(said, list) or not said:
            raise ValueError("messages: must be a list that is not empty")
        if not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in said):
            raise ValueError('messages: must hold {"role": …, "content": …}')
        return said, row.get("message_mode") != "delta"
    if row.get("input_length") is not None:
        tokens = row["input_length"]
        if type(tokens) is not int or not 1 <= tokens <= _MOST_TOKENS:
            bounds = f"from 1 to {_MOST_TOKENS:,}"
            raise ValueError(f"input_length: must be a whole number {bounds}, got {tokens!r}")
        ids = block_ids(row, tokens, block_tokens)
        return [user(text.prompt(tokens, ids))], bool(ids)
    texts = row.get("texts") or [row.get("text", row.get("text_input"))]
    contents: list[Any] = [_content(one) for one in texts] if isinstance(texts, list) else [None]
    if not all(isinstance(one, str) and one for one in contents):
        raise ValueError("has no text, texts, input_length, text_input or messages")
    role = row.get("role") or "user"
    return [{"role": str(role), "content": "\n".join(contents)}], False


def _content(text: Any) -> Any:
    """A text as it stands, or the first of ``{"contents": [text, …]}``; None of what is neither."""
    if not isinstance(text, dict):
        return text
    found = text.get("contents")
    return found[0] if isinstance(found, list) and found else None


def _ms(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST_MS * 1e6:
        raise ValueError(f"{key}: must be a number of milliseconds, got {value!r}")
    if key == "delay" and not 0 <= value < _MOST_MS:
        raise ValueError(f"{key}: must be from 0 to {_MOST_MS:g} milliseconds, got {value!r}")
    return float(value)
