"""Fields of a request's JSON body: each is read and checked here, or refused with 400 and its name."""

from __future__ import annotations

import math
from typing import Any

import orjson

from backends.errors import bad_request


def json_object(body: bytes) -> dict[str, Any]:
    """A request's body. Raises ApiError (400) when it is no JSON object."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The request body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise bad_request("The request body must be a JSON object.")
    return data


def token_ids(ids: Any, field: str) -> tuple[int, ...]:
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise bad_request(f"`{field}` must be a list of token ids (integers).", field)
    return tuple(ids)


def object_field(data: dict[str, Any], field: str) -> dict[str, Any]:
    value = data.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"`{field}` must be an object, got {value!r}.", field)
    return value


def text(data: dict[str, Any], field: str) -> str | None:
    value = data.get(field)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"`{field}` must be a string, got {value!r}.", field)
    return value or None


def flag(data: dict[str, Any], field: str, where: str | None = None) -> bool:
    value = data.get(field)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"`{where or field}` must be true or false, got {value!r}.", where or field)
    return bool(value)


def number(data: dict[str, Any], field: str, default: float) -> float:
    value = data.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"`{field}` must be a number, got {value!r}.", field)
    if not math.isfinite(value):
        raise bad_request(f"`{field}` must be a finite number, got {value}.", field)
    return float(value)


def integer(
    data: dict[str, Any], field: str, *, low: int, high: int | None = None, where: str | None = None
) -> int | None:
    value = data.get(field)
    where = where or field
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(f"`{where}` must be an integer, got {value!r}.", where)
    if value < low:
        raise bad_request(f"{where} must be at least {low}, got {value}.", where)
    if high is not None and value > high:
        raise bad_request(f"{where} must be at most {high}, got {value}.", where)
    return value
