"""Whether a target serves the endpoint that a scenario names, asked before the load goes there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from rvtop.load.plan.api import KINDS, Api
from rvtop.net.place import GRPC
from rvtop.net.transport import Transport
from rvtop.target.probe import TargetError, TargetInfo, ask
from rvtop.text import printable

#: No such page, not this method there, not for this model.
_NOT_SERVED = (404, 405, 501)
_SHOWN = 200
_BY_GRPC = ("chat", "completions")


async def check_served(
    info: TargetInfo, api: Api, models: Sequence[str], transport: Transport | None = None
) -> None:
    """Asks for nothing with the first of ``models``: a server that has the endpoint misses a field, and
    computes nothing. Raises TargetError (exit code 2) where it has none, or not for that model, or where the
    target speaks gRPC, which has chat and completions alone."""
    if info.url.startswith(GRPC):
        if not api.stream:
            raise TargetError(f"{info.url}: gRPC streams; stream: false is for an http URL", 2)
        if api.name in ("", *_BY_GRPC):
            return
        raise TargetError(f"{info.url}: endpoint {api.name} is not there by gRPC; give its http URL", 2)
    if not api.name:
        return
    path, name = KINDS[api.name].path, models[0] if models else ""
    transport = transport or Transport()
    sent = replace(transport, headers={**transport.headers, "Content-Type": "application/json"})
    status, body = await asyncio.to_thread(
        ask, info.url + path, sent, None, "POST", orjson.dumps({"model": name})
    )
    if status in _NOT_SERVED:
        said = _said(body)
        raise TargetError(
            f"{info.url} does not serve endpoint {api.name} for model {printable(name)} (POST {path} gave "
            f"HTTP {status}{f': {said}' if said else ''}); choose another --endpoint, --model or target",
            2,
        )


def _said(body: bytes) -> str:
    """The message of an error's body, as OpenAI, Anthropic and FastAPI write it."""
    try:
        data: Any = json.loads(body)
        error = data.get("error", data)
        text = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return printable(text, _SHOWN).rstrip(".") if isinstance(text, str) else ""
