"""What all mappings of a scenario file share: strict values, and errors that name a key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NoReturn, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from rvtop.scenario.units import DURATION, MAX_DURATION_S, parse_duration
from rvtop.text import printable

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """``text`` says what is wrong with ``key`` (or a path) from here; ``{written}`` in it stands for the
    value in the file. ``about``: keys besides that it rests on; where one is wrong it may not be true."""

    text: str
    key: str | KeyPath | None = None
    about: tuple[str, ...] = ()

    def keys(self) -> set[str]:
        """Every key that it rests on."""
        return {_first(self.key), *self.about}


def fail(message: str) -> NoReturn:
    """``message`` is the error of the value that is being read."""
    raise PydanticCustomError("scenario", "{text}", {"text": message, "key": None})


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
    """A mapping of the file: frozen, an unknown key is an error, and every error of it is told at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    #: What to say of keys that have no place here but are no slip of the pen either.
    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _every_mistake(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):  # a part that was made already, or a value that stands for one
            return handler(data)
        known = cls.keys()
        found = [_unknown(key, known) for key in data if key not in known and key not in cls.refused]
        found += [_detail(Mistake(cls.refused[key], key)) for key in data if key in cls.refused]
        made, wrong = cls._checked({key: data[key] for key in data if key in known}, handler)
        if made is None or found or wrong:
            raise ValidationError.from_exception_data(cls.__name__, [*found, *wrong])
        return made

    @classmethod
    def _checked(
        cls, data: Mapping[str, Any], handler: ModelWrapValidatorHandler[Self]
    ) -> tuple[Self | None, list[InitErrorDetails]]:
        """The part, or None, and what is wrong with it: misplaced keys, wrong values, contradictions between
        the values that are right."""
        misplaced = list(cls.misplaced(data))
        faulty = {_first(one.key) for one in misplaced}
        found = [_detail(one) for one in misplaced]
        made: Self | None = None
        try:
            made = handler(cls.filled(data))
        except ValidationError as error:
            wrong = error.errors(include_url=False)
            found += [_again(one) for one in wrong]
            faulty |= {str(one["loc"][0]) for one in wrong if one["loc"]}
            if all(one["loc"] for one in wrong):
                # What is right may still contradict itself, where it is enough for a part.
                with contextlib.suppress(ValidationError):
                    rest = {key: value for key, value in data.items() if key not in faulty}
                    made = handler(cls.filled(rest))
        if made is not None:
            found += [_detail(one) for one in made.contradictions() if not faulty & one.keys()]
        return made, found

    @classmethod
    def keys(cls) -> list[str]:
        """The keys this mapping may have in a file, sorted."""
        return sorted(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def filled(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The mapping with what it leaves out."""
        return data

    @classmethod
    def misplaced(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """What is wrong about the keys, before any value was looked at; all of them are known."""
        return iter(())

    def contradictions(self) -> Iterator[Mistake]:
        """Values that are right by themselves but not together."""
        return iter(())


def _first(key: str | KeyPath | None) -> str:
    return key if isinstance(key, str) else str(key[0]) if key else ""


def _detail(mistake: Mistake) -> InitErrorDetails:
    # Braces would be taken for a template, so the text travels as a value.
    context = {"text": mistake.text, "key": mistake.key}
    return {"type": PydanticCustomError("scenario", "{text}", context), "loc": (), "input": None}


def _unknown(key: object, known: list[str]) -> InitErrorDetails:
    error = PydanticCustomError("unknown_key", "unknown key", {"key": key, "known": known})
    return {"type": error, "loc": (), "input": None}


def _again(error: ErrorDetails) -> InitErrorDetails:
    """One of pydantic's errors, to be raised with others."""
    context = error.get("ctx", {})
    kind: Any = error["type"]
    if kind in ("scenario", "unknown_key"):
        kind = PydanticCustomError(kind, "{text}" if kind == "scenario" else "unknown key", context)
        return {"type": kind, "loc": error["loc"], "input": error["input"]}
    return {"type": kind, "loc": error["loc"], "input": error["input"], "ctx": context}
