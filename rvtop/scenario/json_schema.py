"""The scenario file as JSON Schema, for editors: made of the classes that read the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from rvtop.scenario.schema import Scenario

_QUOTED = re.compile(r"``(\w+)``")


class _Keys(GenerateJsonSchema):
    """Pydantic's own, without a title to every key: it would only say the key again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> Mapping[str, Any]:
    """The schema; ``scenario.schema.json`` beside this file is equal.

    What no schema can say (two keys that contradict each other, files that are missing) only
    ``load_scenario`` finds. ``name`` may be left out: it is the file's name then.
    """
    schema = Scenario.model_json_schema(by_alias=True, schema_generator=_Keys)
    schema["required"].remove("name")
    schema["properties"]["workload"].pop("discriminator")  # OpenAPI's, no word of JSON Schema
    aliases = {
        name: field.alias
        for part in _parts(Scenario)
        for name, field in part.model_fields.items()
        if field.alias is not None
    }
    for one in (schema, *schema["$defs"].values()):
        one.pop("title", None)
        if "description" in one:
            text = _QUOTED.sub(lambda found: f"`{aliases.get(found[1], found[1])}`", one["description"])
            one["description"] = " ".join(text.replace("``", "`").split())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A scenario of rvtop",
        **schema,
    }


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _parts(part: type[BaseModel]) -> list[type[BaseModel]]:
    """``part`` and every kind of mapping under it."""
    found = [part]
    for one in found:
        for field in one.model_fields.values():
            found += [inner for inner in _classes(field.annotation) if inner not in found]
    return found


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ()) or ()
    return [found for argument in arguments for found in _classes(argument)]
