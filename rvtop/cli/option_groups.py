"""Options that several commands share stand in one dataclass: a command takes the group as one parameter.

A field of a group is what a parameter of a command is: ``Annotated[type, typer.Option(...)]`` and a default.
``--help`` lists the fields under the group's ``heading``.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

from typer.models import OptionInfo


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command for Typer: each parameter that is a group is unfolded into the group's fields, in its
    place, and made of them again at the call. Raises TypeError where two options have one name."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    unfolded: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]) and isinstance(hints[name], type):
            groups[name] = hints[name]
            unfolded += _options(hints[name])
        else:
            unfolded.append(parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def call(**values: Any) -> None:
        made = {name: group(**_taken(group, values)) for name, group in groups.items()}
        command(**made, **values)

    names = [parameter.name for parameter in unfolded]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{command.__name__}: {', '.join(sorted(twice))} is in two groups")
    del call.__wrapped__  # its signature is not the command's
    call.__signature__ = inspect.Signature(unfolded)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in unfolded}
    return call


def given(group: Any) -> list[str]:
    """The options of a group that are not as they are without being given."""
    return [
        "--" + field.name.replace("_", "-")
        for field in fields(group)
        if getattr(group, field.name) != field.default
    ]


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    heading = getattr(group, "heading", None)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_under(heading, hints[field.name]),
        )
        for field in fields(group)
    ]


def _under(heading: str | None, hint: Any) -> Any:
    """The annotation of an option that stands under ``heading``, unless it names another one itself."""
    made = []
    for one in getattr(hint, "__metadata__", ()):
        if isinstance(one, OptionInfo) and one.rich_help_panel is None:
            one = copy.copy(one)  # other commands may share it
            one.rich_help_panel = heading
        made.append(one)
    return Annotated[hint.__origin__, *made] if made else hint


def _taken(group: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Takes the group's fields out of ``values``."""
    return {field.name: values.pop(field.name) for field in fields(group)}
