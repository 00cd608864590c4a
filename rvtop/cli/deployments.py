"""``rvtop up``, ``ps``, ``logs`` and ``down``: topologies that stay up."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from rvtop.cli.engine_options import EngineOptions
from rvtop.cli.option_groups import grouped
from rvtop.cli.options import seconds
from rvtop.errors import UserError
from rvtop.system.stdio import say


@grouped
def up(
    *,
    context: typer.Context,
    topology: Annotated[str, typer.Argument(help="baseline, rac, rsc, rsv, rvc, vllm, graph or a plugin's.")],
    name: Annotated[str | None, typer.Option(help="Name of the deployment; default the topology's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 0,
    model: Annotated[list[str] | None, typer.Option(help="name=path; repeat for several.")] = None,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Run it in the foreground, for containers; ps and down do not list it."
        ),
    ] = False,
    engine: EngineOptions,
) -> None:
    """Starts a topology that stays up. Takes every option of python -m backends too."""
    if foreground:
        from rvtop.lifecycle.foreground import become
        from rvtop.target.backend import BackendOptions

        if name is not None:
            raise UserError("--name: a topology in the foreground has none; leave one of the two out")
        become(BackendOptions(topology, host, port, tuple(model or ()), (*engine.arguments(), *context.args)))
    from rvtop.lifecycle.up import up as bring_up

    bring_up(
        topology,
        name=name,
        host=host,
        port=port,
        models=tuple(model or ()),
        arguments=(*engine.arguments(), *context.args),
        out=say,
    )


def ps() -> None:
    """Lists the deployments that are up."""
    from rvtop.lifecycle.ps import table
    from rvtop.lifecycle.state import deployments

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for line in table(deployments(), colour=colour):
        say(line)


def logs(
    name: Annotated[str | None, typer.Argument(help="Which one; not needed when there is only one.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Keep printing as the log grows.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many lines, from its end.")] = 50,
) -> None:
    """Prints the log of a deployment."""
    from rvtop.lifecycle.logs import logs as print_log

    print_log(name, lines=lines, follow=follow, out=say)


def down(
    name: Annotated[str | None, typer.Argument(help="Which one; not needed when there is only one.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    timeout: Annotated[str, typer.Option(help="Time to wait before it is ended by force: 45s, 2m.")] = "45s",
) -> None:
    """Ends a deployment, with all that it started."""
    from rvtop.lifecycle.down import down as take_down

    take_down(name, everything=everything, timeout_s=seconds("--timeout", timeout), out=say)
