"""What a backend of ours gives requests that do not say it themselves, changed while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping

from rvtop.errors import UserError
from rvtop.net.transport import Transport
from rvtop.target.ours import message_of
from rvtop.target.probe import ask
from rvtop.text import NAME_LIMIT, told

SET_PATH = "/rvtop/set"
LIMIT_S = 30.0
Value = int | float | None


async def change_defaults(url: str, transport: Transport, values: Mapping[str, Value]) -> dict[str, Value]:
    """Sets them; None takes one away. Returns all that are set then. Raises UserError with what the server
    has against it."""
    body = json.dumps(dict(values)).encode()
    status, answer = await asyncio.to_thread(ask, url + SET_PATH, transport, LIMIT_S, "POST", body)
    if status == 200:
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            said = json.loads(answer).items()
            return {told(name, NAME_LIMIT): value for name, value in said if _is_number(value)}
    other = f"HTTP {status}: not a backend of rvtop's"
    raise UserError(f"set: {message_of(answer) or other}")


def _is_number(value: object) -> bool:
    """Whether it can be shown as one: finite, and no larger than a float can be."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
