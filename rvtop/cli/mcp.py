"""``rvtop mcp``: agents watch, and within limits drive, a load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rvtop.cli.options import check_topology, positive
from rvtop.errors import UserError


def mcp(
    *,
    socket: Annotated[
        Path | None,
        typer.Option(help="A session that is up (its --control); none: the agent starts its own."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where runs are read, and written.")] = Path("runs"),
    allow_load: Annotated[
        bool, typer.Option("--allow-load", help="Let the agent send load; without it, it can only look.")
    ] = False,
    max_rate: Annotated[
        float | None, typer.Option(help="Requests a second at most; needed by --allow-load.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="URL|TOPOLOGY", help="What it may load or start; repeatable, nothing else is."),
    ] = None,
) -> None:
    """Serves agents by MCP: they watch and, within limits, load. On stdin and stdout."""
    positive("--max-rate", max_rate)
    targets = tuple(target or ())
    if not allow_load and (max_rate is not None or targets):
        raise UserError("--max-rate and --target go with --allow-load; without it the agent can only look")
    if allow_load and max_rate is None:
        raise UserError("--allow-load needs --max-rate: the most requests a second that an agent may send")
    if allow_load and socket is None and not targets:
        raise UserError("--allow-load needs --target: the URLs and topologies that an agent may load")
    for each in targets:
        if "://" not in each:
            check_topology(each)
    try:
        from rvtop.mcp.server import build
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise UserError("rvtop mcp needs the package mcp: pip install 'rvtop[mcp]'") from None
    from rvtop.mcp.driver import Driver
    from rvtop.mcp.limits import Limits

    build(Limits(allow_load, max_rate, targets), Driver(socket), runs).run("stdio")
