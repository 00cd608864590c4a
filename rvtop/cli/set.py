"""``rvtop set``: what a running backend gives requests that do not say it themselves, and the replicas of a
graph's stages."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say


def set_defaults(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE…", help="max_tokens, temperature, rag_top_k (`none` unsets); STAGE.replicas."
        ),
    ],
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="NAME|URL",
            help="A deployment (rvtop ps) or a server; default the only deployment.",
        ),
    ] = None,
) -> None:
    """Changes requests' defaults or a stage's replicas, live. Nothing is restarted."""
    from rvtop.lifecycle.choose import url_of
    from rvtop.net.transport import Transport
    from rvtop.target.defaults import change_defaults

    now = asyncio.run(change_defaults(url_of(on), Transport(), values_from(words)))
    said = ", ".join(f"{name} {value:g}" for name, value in now.items() if value is not None)
    say(f"set: {said or 'nothing'}")


def values_from(words: list[str]) -> dict[str, int | float | None]:
    """``max_tokens=64 temperature=none``. Raises UserError."""
    values: dict[str, int | float | None] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"set {word}: write NAME=VALUE, such as max_tokens=64")
        if text == "none":
            values[name] = None
            continue
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"set {word}: {text!r} is no number; write {name}=64, or {name}=none")
        values[name] = value
    return values
