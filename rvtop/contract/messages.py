"""The table of messages: what goes between a session and who watches it, and into ``screen.jsonl.gz``."""

from __future__ import annotations

from typing import Any

from rvtop.contract.codec import Codec
from rvtop.contract.command import COMMANDS
from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.contract.stream import Point

#: What goes up, by the name in ``type``.
VIEWS: dict[str, type[Any]] = {"snapshot": Snapshot, "series": Series, "point": Point, "event": Event}

#: Of what is written down or shown to others: texts are safe to print, secrets have no place in it.
CODEC = Codec({**VIEWS, **COMMANDS})
