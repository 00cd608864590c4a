"""``rvtop split``: what a running backend splits, and another share for an arm."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say

if TYPE_CHECKING:
    from rvtop.target.splits import SplitInfo


def split(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ALIAS] [ARM=PERCENT]…", help="New shares; without any: what is split how, now."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="NAME|URL|SOCKET",
            help="A deployment (rvtop ps), a server, or a session's --control; default the only deployment.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Changes the shares of the models behind one name, at once. For example: rvtop split chat v2=50."""
    from rvtop.cli.ctl import is_socket
    from rvtop.lifecycle.choose import url_of

    alias, shares = shares_from(words or [])
    if on is not None and is_socket(on):
        _by_session(Path(on), alias, shares)
        return
    for one in asyncio.run(_at(url_of(on), alias, shares)):
        say(json.dumps(asdict(one), ensure_ascii=False) if as_json else str(one))


def shares_from(words: list[str]) -> tuple[str, dict[str, float]]:
    """The name (empty: none was given) and shares of ``chat v2=50``. Raises UserError."""
    alias, shares = "", dict[str, float]()
    for word in words:
        arm, equals, text = word.rpartition("=")
        if not equals:
            if alias or shares:
                raise UserError(
                    f"split {word}: write rvtop split ALIAS ARM=PERCENT, such as: split chat v2=50"
                )
            alias = word
            continue
        try:
            shares[arm] = float(text.removesuffix("%"))
        except ValueError:
            raise UserError(
                f"split {word}: {text!r} is no number; write ARM=PERCENT, such as v2=50"
            ) from None
        if not 0 <= shares[arm] <= 100:
            raise UserError(f"split {word}: a share must be from 0 to 100 (percent)")
    return alias, shares


async def _at(url: str, alias: str, shares: dict[str, float]) -> tuple[SplitInfo, ...]:
    from rvtop.net.transport import Transport
    from rvtop.target.splits import change_shares, splits_of

    if shares:
        return await change_shares(url, Transport(), alias, shares)
    found = tuple(one for one in await splits_of(url, Transport()) if alias in ("", one.alias))
    if not found:
        what = f"no name {alias}" if alias else "no name"
        raise UserError(f"{url}: splits {what}; a backend does with --split ALIAS=MODEL:SHARE,…")
    return found


def _by_session(socket: Path, alias: str, shares: dict[str, float]) -> None:
    """By the session, whose command log then has it. Raises UserError."""
    from rvtop.session.control_client import ControlClient

    if not shares:
        raise UserError(f"split: give a share for the session at {socket}, such as: v2=50")
    with ControlClient(socket) as client:
        for arm, share in shares.items():
            client.send("split", {"arm": arm, "share": share, "alias": alias})
            say(str(client.answer("split")[1]["ok"]))
