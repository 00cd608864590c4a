"""What all mappings of a scenario file share: strict values, and errors that name a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rvtop.scenario.units import DURATION, MAX_DURATION_S, parse_duration
from rvtop.text import printable


def fail(message: str, key: str | tuple[str | int, ...] | None = None) -> NoReturn:
    """``message`` is the error, ``{written}`` in it stands for the value in the file; ``key`` (or a path)
    is what it is about, from here."""
    # Braces would be taken for a template, so the text travels as a value.
    raise PydanticCustomError("scenario", "{text}", {"text": message, "key": key})


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as problem:
            fail(str(problem))
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:  # NaN is not
        if value > MAX_DURATION_S:
            fail("must be at most 30 days, got {written}")
        return float(value)
    fail("must be a time such as 30s, 500ms, 2m or 1h, got {written}")


def _visible(name: str) -> str:
    if printable(name) != name:
        fail("holds a control or invisible character, got {written}")
    return name


Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Count = Annotated[int, Strict(), Field(ge=1)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(min_length=1)]
#: A name is shown on screens and in files, so it holds nothing that acts on them.
Name = Annotated[Text, AfterValidator(_visible)]
#: A time as a file gives it: a number of seconds, or text with a unit.
_WRITTEN = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": DURATION}]}
Seconds = Annotated[float, BeforeValidator(_seconds), WithJsonSchema(_WRITTEN)]


class Part(BaseModel):
    """A mapping of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    #: What to say of keys that have no place here but are no slip of the pen either.
    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        if isinstance(data, Mapping):
            known = cls.keys()
            for key in data:
                if key in cls.refused:
                    fail(cls.refused[key], key)
                if key not in known:
                    raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "known": known})
        return data

    @classmethod
    def keys(cls) -> list[str]:
        """The keys this mapping may have in a file, sorted."""
        return sorted(field.alias or name for name, field in cls.model_fields.items())
