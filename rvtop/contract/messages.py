"""The table of messages: what goes between a session and who watches it, and into ``screen.jsonl.gz``."""

from __future__ import annotations

import dataclasses
from typing import Any

from rvtop.contract.codec import Codec, CodecError
from rvtop.contract.command import COMMANDS, CommandError
from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.contract.stream import Point, RequestList
from rvtop.text import printable

#: What goes up, by the name in ``type``.
VIEWS: dict[str, type[Any]] = {
    "snapshot": Snapshot,
    "series": Series,
    "point": Point,
    "event": Event,
    "requests": RequestList,
}

#: Of what is written down or shown to others: texts are safe to print, secrets have no place in it.
CODEC = Codec({**VIEWS, **COMMANDS})


def command_of(name: str, fields: dict[str, Any]) -> Any:
    """A command by its name in the protocol and its fields. Raises CommandError: unlike a message of another
    version, a command with a field that is not known is a slip of the pen."""
    known = [field.name for field in dataclasses.fields(COMMANDS[name])]
    for field in fields:
        if field not in known:
            takes = f"takes {', '.join(known)}" if known else "takes nothing"
            raise CommandError(f"{name}: unknown {printable(field, 40)}; it {takes}")
    try:
        return CODEC.read(name, fields)
    except CodecError as error:
        raise CommandError(str(error)) from None
