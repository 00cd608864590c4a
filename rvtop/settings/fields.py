"""The one table of settings: name, kind, default, what it does. The file, its schema, ``config init`` and the
environment are all read by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Environment variables that stand for a setting, by its name.
ENVIRONMENT = {
    "theme": "RVTOP_THEME",
    "ascii": "RVTOP_ASCII",
    "motion": "RVTOP_MOTION",
    "mouse": "RVTOP_MOUSE",
}
_FLAGS = {
    "1": True,
    "on": True,
    "true": True,
    "yes": True,
    "0": False,
    "off": False,
    "false": False,
    "no": False,
}


@dataclass(frozen=True, slots=True)
class Field:
    """A setting. ``name`` is its path in the file (``slo.ttft_ms``); ``kind``: name, flag, number, keymap."""

    name: str
    kind: str
    default: str | bool | float | None
    about: str
    unit: str = ""


FIELDS: tuple[Field, ...] = (
    Field(
        "theme",
        "name",
        "auto",
        "auto, dark, light, contrast, safe, or the name of a file in themes/ beside this one",
    ),
    Field("ascii", "flag", None, "draw with ASCII alone; without it the locale and the terminal decide"),
    Field("motion", "flag", True, "off: the screen is drawn once a second, not ten times"),
    Field("mouse", "flag", True, "off: the terminal keeps the mouse for itself"),
    Field("keymap", "keymap", None, "other keys for an action, by its name in docs/keys.md; [] for none"),
    Field("slo.ttft_ms", "number", None, "time to first token to hold where a scenario names none", "ms"),
    Field("slo.tpot_ms", "number", None, "time per output token to hold where a scenario names none", "ms"),
    Field("price_per_gpu_hour", "number", None, "what a GPU costs, in any currency", "per hour"),
    Field("price_per_kwh", "number", None, "what energy costs, in the same currency", "per kWh"),
    Field("gpu_power_w", "number", None, "power of a GPU that tells none", "W"),
    Field("gpu_idle_w", "number", None, "power of a GPU that idles, where that was not measured", "W"),
)


def from_environment(name: str, text: str) -> Any:
    """What ``text`` means for the setting ``name``: a flag where that is one. Else ``text`` itself, which
    ``wrong`` refuses."""
    kind = next(field.kind for field in FIELDS if field.name == name)
    return _FLAGS.get(text.strip().lower(), text) if kind == "flag" else text


def wrong(field: Field, value: Any) -> str:
    """Why ``value`` will not do; empty where it does. None is "not set"."""
    if value is None:
        return ""
    if field.kind == "flag" and not isinstance(value, bool):
        return f"must be on or off, got {value}"
    if field.kind == "name" and (not isinstance(value, str) or not value.strip() or "/" in value):
        return f"must be a name, got {value}"
    if field.kind == "number":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            return f"must be a number > 0{f' ({field.unit})' if field.unit else ''}, got {value}"
    return ""


def key_list(value: Any) -> tuple[str, ...] | None:
    """The keys of a keymap's entry, one or a list; None where it is neither."""
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list) and all(isinstance(key, str) for key in value):
        return tuple(value)
    return None


def json_schema() -> Mapping[str, Any]:
    """The settings file as JSON Schema, for editors; ``settings.schema.json`` beside this file is equal."""
    kinds: dict[str, dict[str, Any]] = {
        "name": {"type": "string", "minLength": 1},
        "flag": {"type": "boolean"},
        "number": {"type": "number", "exclusiveMinimum": 0},
        "keymap": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
        },
    }
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rvtop's settings (config.yaml)",
        "type": "object",
        "additionalProperties": False,
        "properties": {},
    }
    for field in FIELDS:
        outer, _, inner = field.name.rpartition(".")
        here = root["properties"]
        if outer:
            group = {"type": "object", "additionalProperties": False, "properties": {}}
            here = here.setdefault(outer, group)["properties"]
        entry = {**kinds[field.kind], "description": field.about + (f" ({field.unit})" if field.unit else "")}
        if field.default is not None:
            entry["default"] = field.default
        here[inner] = entry
    return root


def commented() -> str:
    """The file that ``rvtop config init`` writes: every setting with what it does, none of them set."""
    lines = [
        "# Settings of rvtop. A flag wins over the environment (RVTOP_THEME, …), and that over this file.",
        "",
    ]
    outer = ""
    for field in FIELDS:
        group, _, inner = field.name.rpartition(".")
        lines.append(f"# {field.about}{f' ({field.unit})' if field.unit else ''}")
        if group and group != outer:
            lines.append(f"# {group}:")
        outer = group
        example = {"flag": "on", "number": "1", "keymap": '{"panel: zoom": [z, Z]}'}.get(field.kind, "auto")
        lines.append(f"# {'  ' if group else ''}{inner}: {example}")
    return "\n".join(lines) + "\n"
