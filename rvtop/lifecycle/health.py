"""Whether a deployment can answer: ``GET /health``, which needs no key."""

from __future__ import annotations

import http.client
import json
from typing import NamedTuple
from urllib.parse import urlsplit

from rvtop.text import printable, told

_TIMEOUT_S = 5.0
_BODY_LIMIT = 1 << 16
_LINE_LIMIT = 400


class Health(NamedTuple):
    """``message``: one line when it is not ok. ``restarts``: how often an engine inside the backend was
    started anew; None where it does not say."""

    ok: bool
    message: str = ""
    restarts: int | None = None


def health(url: str) -> Health:
    """Asks once; blocks for at most some seconds. Never raises for a server that is not well."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        body = answer.read(_BODY_LIMIT)
    except TimeoutError:
        return Health(False, f"/health: no answer within {_TIMEOUT_S:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Health(False, printable(f"/health: {error or type(error).__name__}", _LINE_LIMIT))
    finally:
        connection.close()
    if answer.status == 200:
        return Health(True, restarts=_restarts(body))
    return Health(False, f"/health: HTTP {answer.status}{_reason(body)}")


def _restarts(body: bytes) -> int | None:
    try:
        return int(json.loads(body)["restarts"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _reason(body: bytes) -> str:
    try:
        message = told(json.loads(body)["error"]["message"], _LINE_LIMIT)
        return f": {message}" if message else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
