"""Names that a server splits over several models: what it says of them, and how their shares are changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rvtop.errors import UserError
from rvtop.net.transport import Transport
from rvtop.target.ours import message_of
from rvtop.target.probe import ask
from rvtop.text import NAME_LIMIT, told

SPLIT_PATH = "/rvtop/split"
LIMIT_S = 3.0
_MOST_ARMS = 64


@dataclass(frozen=True)
class ArmShare:
    """A model of a split, its share (percent), and whether it has an engine that can answer."""

    name: str
    share: float
    up: bool


@dataclass(frozen=True)
class SplitInfo:
    """A name that is split. ``fallback``: what an arm that is down can't answer another one does."""

    alias: str
    arms: tuple[ArmShare, ...]
    fallback: bool = False

    def __str__(self) -> str:
        return f"{self.alias}: " + ", ".join(f"{arm.name} {arm.share:g} %" for arm in self.arms)


async def splits_of(url: str, transport: Transport) -> tuple[SplitInfo, ...]:
    """What the server at ``url`` splits now; nothing where it tells of none. Raises TargetError."""
    status, body = await asyncio.to_thread(ask, url + SPLIT_PATH, transport, LIMIT_S)
    return () if status != 200 else read_splits(body)


async def change_shares(
    url: str, transport: Transport, alias: str, shares: Mapping[str, float]
) -> tuple[SplitInfo, ...]:
    """Gives arms of a name other shares (percent). Raises UserError with what the server has against it."""
    body = json.dumps({"shares": dict(shares), **({"alias": alias} if alias else {})}).encode()
    status, answer = await asyncio.to_thread(ask, url + SPLIT_PATH, transport, LIMIT_S, "POST", body)
    if status == 200:
        return read_splits(answer)
    if status in (404, 405) and not message_of(answer):
        raise UserError(f"{url}: splits no name (HTTP {status}); start it with --split ALIAS=MODEL:SHARE,…")
    raise UserError(f"split: {message_of(answer) or f'HTTP {status}'}")


def read_splits(body: bytes) -> tuple[SplitInfo, ...]:
    """What ``GET /rvtop/split`` answered; what is not as it should be is left out."""
    try:
        rows = json.loads(body)["splits"]
        return tuple(_split(row) for row in rows[:_MOST_ARMS])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return ()


def _split(row: dict[str, Any]) -> SplitInfo:
    arms = tuple(
        ArmShare(told(arm["arm"], NAME_LIMIT), min(100.0, max(0.0, float(arm["share"]))), bool(arm["up"]))
        for arm in row["arms"][:_MOST_ARMS]
    )
    return SplitInfo(told(row["alias"], NAME_LIMIT), arms, bool(row.get("fallback")))
