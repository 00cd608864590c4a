"""Messages as one JSON line each, made from the frozen dataclasses of a table by their annotations.

``{"type": "rate", "rps": 20.0}``: the first field names the dataclass, the others are its own. Unknown
fields are ignored and missing ones take their default, so that an older line is read by a newer rvtop. It is
strict JSON: NaN is null, and so is infinity; null among numbers that must be there (``tuple[float, ...]``) is
read as infinity, the last edge of a histogram's buckets.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from rvtop.stats.distribution import BUCKETS, Distribution
from rvtop.text import printable

Read = Callable[[Any], Any]

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
}
_NUMBERS = frozenset({int, float})
_WHOLE = frozenset({int})
_TRUTH = frozenset({bool})
_NONE = frozenset({types.NoneType})
_MOST = 1 << 62  # of a histogram's numbers: their sums stay within 64 bits


class CodecError(ValueError):
    """A line that is no message. ``str()`` is one line: what is wrong, and in which field."""

    def __init__(self, what: str, at: str = "") -> None:
        super().__init__(f"{at}: {what}" if at else what)
        self.what = what
        self.at = at

    def within(self, name: str) -> CodecError:
        """The same, told by somebody who knows in which field or item it was."""
        dot = "" if not self.at or self.at.startswith("[") else "."
        return CodecError(self.what, f"{name}{dot}{self.at}")


class UnknownType(CodecError):
    """A sound message of a type that is not in the table: a newer rvtop's. A reader may leave it out."""


class Codec:
    """Lines of the dataclasses in ``table``, by the name that ``type`` has.

    ``text`` is applied to each text that is read; by default it is made safe to print, since a line may be
    somebody else's. ``special`` reads types that are no dataclasses, ``plain`` turns their values into JSON
    (of the types that it doesn't know it returns them as they are); ``names`` resolves annotations that a
    module imports for type checkers only.
    """

    def __init__(
        self,
        table: Mapping[str, type[Any]],
        *,
        text: Callable[[str], str] = printable,
        special: Mapping[Any, Read] | None = None,
        plain: Callable[[Any], Any] = lambda value: value,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self._table = dict(table)
        self._heads = {kind: f'{{"type":"{name}"'.encode() for name, kind in table.items()}
        self._text = text
        self._special = {Distribution: _distribution, **(special or {})}
        self._extra = plain
        self._names = dict(names or {})
        self._readers: dict[Any, Read] = {}

    def encode(self, message: Any) -> bytes:
        """The line of a message, with its line end. Raises KeyError for a type that is not in the table."""
        head = self._heads[type(message)]
        try:
            body = orjson.dumps(message, default=self._plain)
        except orjson.JSONEncodeError:  # a file's name that is not UTF-8, a number beyond 64 bits
            body = json.dumps(self._deep(message), allow_nan=False, separators=(",", ":")).encode()
        return head + (b"}\n" if body == b"{}" else b"," + body[1:] + b"\n")

    def decode(self, line: bytes) -> Any:
        """The message of a line, with its line end or without. Raises CodecError."""
        data = _json(line)
        if type(data) is not dict:
            raise CodecError(f"must be an object, not {_kind(data)}")
        name = data.get("type")
        if type(name) is not str:
            raise CodecError("no type" if name is None else f"must be a text, not {_kind(name)}", "type")
        return self.read(name, data)

    def read(self, name: str, fields: dict[str, Any]) -> Any:
        """The message of this name in the table, of JSON values. Raises CodecError."""
        kind = self._table.get(name)
        if kind is None:
            raise UnknownType(f"unknown type {printable(name, 40)}")
        try:
            return self._reader(kind)(fields)
        except CodecError as error:
            raise error.within(name) from None

    # -- to JSON -----------------------------------------------------------------------------

    def _plain(self, value: Any) -> Any:
        """What orjson does not know, as what it knows. Raises TypeError."""
        if isinstance(value, Path):
            return str(value)
        found = self._extra(value)
        if found is value:
            raise TypeError(f"{type(value).__name__} has no place in a message")
        return found

    def _deep(self, value: Any) -> Any:
        """All of ``value`` as plain JSON values: slow, for what orjson refuses."""
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            return {field.name: self._deep(getattr(value, field.name)) for field in fields}
        if isinstance(value, Mapping):
            return {str(key): self._deep(inner) for key, inner in value.items()}
        if isinstance(value, Sequence):
            return [self._deep(inner) for inner in value]
        return self._deep(self._plain(value))

    # -- from JSON ---------------------------------------------------------------------------

    def _reader(self, annotation: Any) -> Read:
        """What reads a value of this annotation; made once for each."""
        reader = self._readers.get(annotation)
        if reader is None:
            reader = self._readers[annotation] = self._new_reader(annotation)
        return reader

    def _new_reader(self, annotation: Any) -> Read:
        special = self._special.get(annotation)
        if special is not None:
            return special
        if annotation is Any:
            return lambda value: value
        if annotation is str:
            return self._read_text
        if annotation is Path:
            return lambda value: Path(self._read_text(value))
        exact = _exact(annotation)
        if exact:
            return _scalar(exact)
        if dataclasses.is_dataclass(annotation):
            return self._object(annotation)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Literal:
            return _one_of(arguments)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments)
        if origin is tuple and (len(arguments) != 2 or arguments[1] is not ...):
            return _fixed([self._reader(argument) for argument in arguments])
        if origin in (tuple, list, Sequence):
            return self._list(arguments[0])
        if origin in (dict, Mapping):
            return self._mapping(self._reader(arguments[1]))
        raise TypeError(f"no reader for {annotation}")

    def _read_text(self, value: Any) -> str:
        if type(value) is not str:
            raise CodecError(f"must be a text, not {_kind(value)}")
        return self._text(value)

    def _object(self, kind: Any) -> Read:
        hints = typing.get_type_hints(kind, localns=self._names)
        fields = [field for field in dataclasses.fields(kind) if field.init]
        missing = dataclasses.MISSING
        needed = [f.name for f in fields if f.default is missing and f.default_factory is missing]
        plan = [(f.name, _exact(hints[f.name]), self._reader(hints[f.name])) for f in fields]

        def read(value: Any) -> Any:
            if type(value) is not dict:
                raise CodecError(f"must be an object, not {_kind(value)}")
            found = {}
            name = ""
            try:
                for name, exact, convert in plan:
                    if name in value:
                        item = value[name]
                        if type(item) in exact:
                            found[name] = item
                        elif item is not None or name not in not_null:
                            found[name] = convert(item)
            except CodecError as error:
                raise error.within(name) from None
            for name in needed:
                if name not in found:
                    raise CodecError(f"no {name}")
            return kind(**found)

        # Null for what can't be None says no more than a field that is not there.
        not_null = {f.name for f in fields if not _takes_none(hints[f.name])}
        return read

    def _union(self, arguments: tuple[Any, ...]) -> Read:
        readers = [self._reader(argument) for argument in arguments if argument is not types.NoneType]
        optional = types.NoneType in arguments

        def read(value: Any) -> Any:
            if value is None and optional:
                return None
            for reader in readers[:-1]:
                try:
                    return reader(value)
                except CodecError:
                    continue
            return readers[-1](value)

        return read

    def _list(self, annotation: Any) -> Read:
        exact, convert = _exact(annotation), self._reader(annotation)

        def read(value: Any) -> tuple[Any, ...]:
            if type(value) is not list:
                raise CodecError(f"must be a list, not {_kind(value)}")
            if exact and exact.issuperset(map(type, value)):
                return tuple(value)
            found = []
            try:
                for item in value:
                    found.append(math.inf if item is None and exact == _NUMBERS else convert(item))
            except CodecError as error:
                raise error.within(f"[{len(found)}]") from None
            return tuple(found)

        return read

    def _mapping(self, convert: Read) -> Read:
        text = self._text

        def read(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise CodecError(f"must be an object, not {_kind(value)}")
            return {text(key): convert(item) for key, item in value.items()}

        return read


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        if b"\\ud" not in line:
            raise CodecError("not JSON") from None
    try:  # a file's name that is not UTF-8: orjson takes no lone surrogate
        return json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise CodecError("not JSON") from None


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "of another kind")


def _exact(annotation: Any) -> frozenset[type]:
    """The types of JSON values that are the annotation's as they are; none where they must be looked at."""
    if annotation is float:
        return _NUMBERS
    if annotation is int:
        return _WHOLE
    if annotation is bool:
        return _TRUTH
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return frozenset()
    parts = [_NONE if argument is types.NoneType else _exact(argument) for argument in arguments]
    return frozenset().union(*parts) if all(parts) else frozenset()


def _takes_none(annotation: Any) -> bool:
    return annotation is Any or types.NoneType in typing.get_args(annotation)


def _scalar(exact: frozenset[type]) -> Read:
    wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in _KINDS if kind in exact))
    wanted = wanted.replace("a number", "a whole number") if exact == _WHOLE else wanted

    def read(value: Any) -> Any:
        if type(value) not in exact:
            raise CodecError(f"must be {wanted}, not {_kind(value)}")
        return value

    return read


def _one_of(choices: tuple[Any, ...]) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not str or value not in choices:
            raise CodecError(f"must be one of {', '.join(map(str, choices))}")
        return value

    return read


def _fixed(readers: Sequence[Read]) -> Read:
    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(readers):
            raise CodecError(f"must be a list of {len(readers)}")
        found = []
        try:
            for reader, item in zip(readers, value, strict=True):
                found.append(reader(item))
        except CodecError as error:
            raise error.within(f"[{len(found)}]") from None
        return tuple(found)

    return read


def _distribution(value: Any) -> Distribution:
    if type(value) is not dict or type(value.get("buckets")) is not list:
        raise CodecError("must be a histogram: an object with buckets")
    try:
        buckets = tuple([(index, count) for index, count in value["buckets"]])
        indices, counts = [index for index, _ in buckets], [count for _, count in buckets]
        numbers = [value.get(name, 0) for name in ("sum_ns", "min_ns", "max_ns")]
        if not _WHOLE.issuperset(map(type, (*numbers, *indices, *counts))):
            raise ValueError
        if indices != sorted(set(indices)):
            raise ValueError
        if buckets and not (indices[0] >= 0 and indices[-1] < BUCKETS):
            raise ValueError
        if buckets and not (min(counts) > 0 and max(counts) <= _MOST):
            raise ValueError
        if not all(0 <= n <= _MOST for n in numbers):
            raise ValueError
    except (TypeError, ValueError):
        raise CodecError(
            "a histogram has whole numbers, and buckets of this version in ascending order"
        ) from None
    return Distribution(buckets, *numbers)
