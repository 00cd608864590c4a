"""What goes between a dashboard and its session's process, besides the messages that anybody may see.

First a line of secrets, then the request, then commands; snapshots come back, and last the outcome. The
values of headers are in that first line alone: whatever the codec writes may be shown or kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from rvtop.contract.codec import Codec, CodecError
from rvtop.contract.command import COMMANDS
from rvtop.contract.messages import VIEWS
from rvtop.session.request import Outcome, SessionRequest

#: No line between the two comes near. Bytes.
LONGEST = 64 << 20

#: What a session sends.
UP = Codec({**VIEWS, "outcome": Outcome})


def request_lines(request: SessionRequest) -> bytes:
    """The first two lines that a session's process is given."""
    secrets = orjson.dumps(dict(request.transport.headers), option=orjson.OPT_APPEND_NEWLINE)
    bare = replace(request, transport=replace(request.transport, headers={}))
    return secrets + _REQUEST.encode(bare)


def with_secrets(request: SessionRequest, line: bytes) -> SessionRequest:
    """A request that was read, with the headers of the line before it."""
    return replace(request, transport=replace(request.transport, headers=orjson.loads(line)))


def _plain(value: Any) -> Any:
    """A part of a scenario as its file would have it, but for the exact seconds."""
    if not hasattr(value, "model_dump"):
        return value
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)


#: Encodes a request; to read one takes pydantic, which the dashboard's first frame doesn't wait for.
_REQUEST = Codec({"request": SessionRequest}, plain=_plain)


def down_codec() -> Codec:
    """What a session's process reads. Texts are as they were given: they name files."""
    from rvtop.scenario.schema import Scenario
    from rvtop.session.search import SearchOptions

    def scenario(value: Any) -> Scenario:
        try:
            return Scenario.model_validate(value)
        except ValueError as error:
            raise CodecError(f"no scenario: {' '.join(str(error).split())}") from None

    return Codec(
        {"request": SessionRequest, **COMMANDS},
        text=lambda text: text,
        special={Scenario: scenario},
        names={"Scenario": Scenario, "SearchOptions": SearchOptions},
    )
