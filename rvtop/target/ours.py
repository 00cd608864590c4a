"""What backends of ours answer to a command."""

from __future__ import annotations

import json

from rvtop.text import printable


def message_of(body: bytes) -> str:
    """What a refusal says, safe to print; empty where it is none of ours."""
    try:
        return printable(str(json.loads(body)["error"]["message"]), 300)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
