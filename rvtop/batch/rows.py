"""The rows of a batch: rows of our own, or requests in OpenAI's batch format, as JSON lines or Parquet.

Whatever is wrong with a row is found here, where it costs that row alone. What needs the model's tokenizer
(too long, a chat template that raises) is found by the process that has it (``backends/batch/rows.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.system.files import check_regular
from rvtop.text import NAME_LIMIT, told

ROLES = ("system", "developer", "user", "assistant", "tool")
URLS = ("/v1/chat/completions", "/v1/completions")
_BOM = b"\xef\xbb\xbf"
#: A JSON line of more bytes is none of ours.
_LONGEST = 1 << 24
#: Whole numbers beyond have no way into an engine: one of them would end it, with the other rows in it.
_MOST = 2**63 - 1


@dataclass(frozen=True)
class Row:
    """A row that can be computed, as far as is known without the model. ``key`` is its line, from 1."""

    key: int
    id: str
    chat: bool
    model: str  # that the row names, or ""
    work: dict[str, Any]  # what the engines' process reads of it


@dataclass(frozen=True)
class BadRow:
    """A row that can't be, and why; ``id`` is "" where it says none."""

    key: int
    id: str
    reason: str


class _Wrong(Exception):
    """What is wrong with a row: field, value, what it must be."""


def read_rows(path: Path, model: str = "") -> Iterator[Row | BadRow]:
    """Every row of a file, in its order; of two with one id the second is bad. ``model``: a row that names
    another one is bad; "" takes any. Raises UserError where the file itself can't be read."""
    seen: set[str] = set()
    for key, found in _raw(path):
        row = found if isinstance(found, BadRow) else _row(key, found)
        if isinstance(row, Row):
            if row.id in seen:
                row = BadRow(key, row.id, f"the id {row.id!r} is that of an earlier row")
            elif model and row.model and row.model != model:
                row = BadRow(key, row.id, f"model: {row.model!r} is not served; {model!r} is")
        if isinstance(row, Row):
            seen.add(row.id)
        yield row


def _raw(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        check_regular(path)
        yield from _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
    except OSError as error:
        raise UserError(
            f"{path}: can't be read: {error.strerror or error}; give a .jsonl or .parquet file"
        ) from None


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            if not line.endswith(b"\n") and len(line) == _LONGEST:
                raise UserError(
                    f"{path}:{number}: a line of more than {_LONGEST >> 20} MiB; is this JSON lines?"
                )
            line = line.removeprefix(_BOM).strip()
            if not line:
                continue
            try:
                # Not orjson: of a row with NaN that says only that it is not JSON.
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, BadRow(number, "", f"not JSON: {error}")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows of a Parquet file: a column a field. ``messages`` and ``body`` may be JSON text, too."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install 'rvtop[parquet]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, _without_none({name: _decoded(name, value) for name, value in row.items()})
    except arrow.ArrowException as error:
        raise UserError(f"{path}: is no Parquet file that can be read: {_line(error)}") from None


def _decoded(name: str, value: Any) -> Any:
    if name in ("body", "messages") and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value  # its field is told to be wrong
    return value


def _without_none(value: Any) -> Any:
    """Without what a table's other rows have."""
    if isinstance(value, dict):
        return {name: _without_none(inner) for name, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


# -- one row -----------------------------------------------------------------------------------------------


def _row(key: int, raw: Any) -> Row | BadRow:
    if not isinstance(raw, dict):
        return BadRow(key, "", "must be an object")
    id_ = raw.get("custom_id", raw.get("id", f"row-{key}"))
    if not isinstance(id_, str | int) or isinstance(id_, bool) or id_ == "":
        return BadRow(key, "", "custom_id: must be a text that is not empty")
    try:
        body = _body(raw)
        chat = "messages" in body
        if chat == ("prompt" in body):
            raise _Wrong("must have either 'messages' or 'prompt'")
        work: dict[str, Any] = {"key": key}
        if chat:
            work["messages"] = _messages(body["messages"])
        else:
            work["prompt"] = _prompt(body["prompt"])
        most = body.get("max_completion_tokens", body.get("max_tokens"))
        work["max_tokens"] = None if most is None else _whole("max_tokens", most, 1)
        work["sampling"] = _sampling(body)
    except _Wrong as error:
        return BadRow(key, str(id_), str(error))
    return Row(key, str(id_), chat, str(body.get("model") or ""), work)


def _body(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request that a row is: OpenAI's batch format has it in ``body``, ours is one itself."""
    if "body" not in raw:
        fields = {name: value for name, value in raw.items() if name not in ("custom_id", "id")}
    else:
        method, url = raw.get("method", "POST"), raw.get("url", URLS[0])
        if method != "POST":
            raise _Wrong(f"method: {method!r} must be 'POST'")
        if url not in URLS:
            raise _Wrong(f"url: {url!r} must be one of {', '.join(URLS)}")
        fields = raw["body"]
        if not isinstance(fields, dict):
            raise _Wrong("body: must be an object")
    for name, value in fields.items():
        if name not in _KNOWN and value not in (None, False, [], {}):
            raise _Wrong(f"{name}: is not computed in a batch; leave it out")
    if fields.get("n") not in (None, 1):
        raise _Wrong(f"n: {fields['n']!r} must be 1")
    return {name: value for name, value in fields.items() if value is not None}


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise _Wrong("messages: must be a list that is not empty")
    return [_message(place, message) for place, message in enumerate(messages)]


def _message(place: int, message: Any) -> dict[str, Any]:
    where = f"messages[{place}]"
    if not isinstance(message, dict):
        raise _Wrong(f"{where}: must be an object")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise _Wrong(f"{where}.role: {role!r} must be one of {', '.join(ROLES)}")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise _Wrong(f"{where}.content: only parts of text can be read")
        content = "".join(parts)  # type: ignore[arg-type]
    try:
        json.dumps([value for name, value in message.items() if name != "content"])
    except TypeError as error:  # Parquet has times and bytes
        raise _Wrong(f"{where}: {error}") from None
    return {**message, "content": _text(f"{where}.content", content)}


def _prompt(prompt: Any) -> str:
    return _text("prompt", prompt)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"{name}: must be a text that is not empty")
    return _whole_text(name, value)


def _whole_text(name: str, value: str) -> str:
    """JSON can say half of a surrogate pair, which no tokenizer takes."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Wrong(f"{name}: its character {error.start} is half of a surrogate pair") from None
    return value


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter, those that the row leaves out with OpenAI's default."""
    sampling = {
        name: read(name, body[name]) if name in body else default
        for name, (default, read) in _SAMPLING.items()
    }
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most is not None and sampling["min_tokens"] > most:
        raise _Wrong(f"min_tokens: {sampling['min_tokens']} is more than max_tokens {most}")
    return sampling


def _number(low: float, high: float, *, above: bool = False) -> Callable[[str, Any], float]:
    """Reads a finite number from ``low`` (with ``above``: more than that) to ``high``."""

    def read(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Wrong(f"{name}: {value!r} must be a number")
        try:
            number = float(value)
        except OverflowError:  # of a whole number
            number = math.inf
        if not math.isfinite(number):
            raise _Wrong(f"{name}: {number} is not a finite number")
        if not low <= number <= high or (above and number == low):
            least = f"above {low:g}" if above else f"at least {low:g}"
            raise _Wrong(
                f"{name}: {number:g} must be {least}" + (f" and at most {high:g}" if high < math.inf else "")
            )
        return number

    return read


def _whole(name: str, value: Any, low: int) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise _Wrong(f"{name}: {value!r} must be a whole number")
    if not low <= value <= _MOST:
        least = f"at least {low}" if value < low else "below 2^63"
        raise _Wrong(f"{name}: {told(str(value), NAME_LIMIT)} must be {least}")
    return int(value)


def _count(low: int) -> Callable[[str, Any], int]:
    return lambda name, value: _whole(name, value, low)


def _stop(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _Wrong(f"{name}: must be a text, or a list of texts")
    return [_whole_text(name, text) for text in texts]


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"{name}: {value!r} must be true or false")
    return value


#: Sampling parameters: default, and what reads a value.
_SAMPLING: dict[str, tuple[Any, Callable[[str, Any], Any]]] = {
    "temperature": (1.0, _number(0, 100)),
    "top_p": (1.0, _number(0, 1, above=True)),
    "top_k": (0, _count(-1)),
    "min_p": (0.0, _number(0, 1)),
    "presence_penalty": (0.0, _number(-2, 2)),
    "frequency_penalty": (0.0, _number(-2, 2)),
    "repetition_penalty": (1.0, _number(0, math.inf, above=True)),
    "seed": (None, _count(0)),
    "stop": ([], _stop),
    "min_tokens": (0, _count(0)),
    "ignore_eos": (False, _switch),
}
#: Fields of a request that are computed, or that change nothing of what is.
_KNOWN = {
    *_SAMPLING,
    *("messages", "prompt", "model", "max_tokens", "max_completion_tokens", "n"),
    *("user", "metadata", "store", "stream_options", "service_tier", "safety_identifier"),
}
