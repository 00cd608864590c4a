"""Typer without pydantic, which takes a fifth of a second to import before the first frame.

An option's text that plainly is what the option takes is read here; any other goes to Typer's own reader,
which knows every case and words the errors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.core

_WHOLE = re.compile(r"-?[0-9]{1,15}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_OTHER = object()  # not plainly what the option takes


def _text(value: Any) -> Any:
    return value if type(value) is str else _OTHER


def _whole(value: Any) -> Any:
    if type(value) is str and _WHOLE.fullmatch(value):
        return int(value)
    return value if type(value) is int else _OTHER


def _decimal(value: Any) -> Any:
    if type(value) is str and _DECIMAL.fullmatch(value):
        return float(value)
    return value if type(value) is float else _OTHER


def _texts(value: Any) -> Any:
    if isinstance(value, list | tuple) and all(type(one) is str for one in value):
        return list(value)
    return _OTHER


def _new_path(value: Any) -> Any:
    """Of a file that is there Typer checks more."""
    return Path(value) if type(value) is str and "\0" not in value and not os.path.lexists(value) else _OTHER


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _whole,
    float: _decimal,
    list[str]: _texts,
    Path: _new_path,
}
#: What an option may ask for besides its type, as Typer has it where it does not.
_NOTHING_MORE = {
    "parser": None,
    "min": None,
    "max": None,
    "exists": False,
    "resolve_path": False,
    "path_type": None,
}


def _reader(descriptor: Any) -> Callable[[Any], Any] | None:
    """What reads the texts of an option, where it asks for nothing but a plain type."""
    info = descriptor.parameter_info
    if any(getattr(info, name, usual) != usual for name, usual in _NOTHING_MORE.items()):
        return None
    return _READERS.get(descriptor.annotation)


def install() -> None:
    """Has Typer read plain options so. Of a Typer that reads them in another way nothing is changed."""
    whole: Callable[[Any], Any] | None = getattr(typer.core, "build_runtime_param", None)
    if whole is None or getattr(whole, "plain_first", False):
        return
    usual = whole
    from typer._coercion import RuntimeParam

    class PlainFirst(RuntimeParam):
        """Reads what is plain, and hands on what is not."""

        def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
            read = _reader(param.type_descriptor)
            found = _OTHER if read is None else read(value)
            if found is not _OTHER:
                return found
            return usual(param.type_descriptor)._coerce_value(value, param=param, ctx=ctx)

    def build(descriptor: Any) -> RuntimeParam:
        return PlainFirst(descriptor.parameter_info, descriptor.annotation)

    build.plain_first = True  # type: ignore[attr-defined]
    vars(typer.core)["build_runtime_param"] = build
