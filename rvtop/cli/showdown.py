"""``rvtop showdown``: topologies one after another with the same work, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rvtop.cli.options import Models, Out, RayAddress
from rvtop.errors import UserError, check_limits
from rvtop.system.stdio import say, say_error


def showdown(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    topologies: Annotated[
        str | None, typer.Option(help="Which, in this order: baseline,rac,rsc,rvc; default all.")
    ] = None,
    repeat: Annotated[int, typer.Option(help="Times that each runs; every second time in reverse.")] = 1,
    reference: Annotated[
        str | None, typer.Option(help="What changes are told against; default rac, or else the first.")
    ] = None,
    model: Models = None,
    ray_address: RayAddress = None,
    out: Out = None,
    ui: Annotated[str, typer.Option("--ui", help="plain or none.")] = "plain",
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Runs topologies one after another with the same requests, and compares them."""
    if ui not in ("plain", "none"):
        raise UserError(f"--ui {ui}: must be plain or none")
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: must be 1 or more")
    names = topologies.split(",") if topologies is not None else None
    code = compare(
        scenario,
        names,
        out=out,
        reference=reference,
        repeat=repeat,
        models=model or (),
        ray_address=ray_address,
        quiet=ui == "none",
        as_json=as_json,
    )
    raise typer.Exit(code)


def compare(
    scenario: str,
    names: Sequence[str] | None = None,
    *,
    out: Path | None,
    reference: str | None = None,
    repeat: int = 1,
    models: Sequence[str] = (),
    ray_address: str | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Runs the showdown and prints its table; returns the exit code. Raises UserError."""
    check_limits()
    from rvtop.plain import run_plain
    from rvtop.session.request import Outcome, SessionRequest, default_out, find
    from rvtop.study.entries import entries, turns
    from rvtop.study.rows import rows, table
    from rvtop.study.showdown import SHOWDOWN, run_turns
    from rvtop.target.preflight import check_backend
    from rvtop.target.topologies import TOPOLOGIES

    for name in names or ():
        if name not in TOPOLOGIES:
            raise UserError(f"--topologies: {name!r} is unknown; known are: {', '.join(TOPOLOGIES)}")
    on_vllm = frozenset(name for name, topology in TOPOLOGIES.items() if "vllm" in topology.extras)
    on_ray = frozenset(name for name, topology in TOPOLOGIES.items() if "ray" in topology.extras)
    arguments = dict.fromkeys(on_ray, ("--ray-address", ray_address)) if ray_address is not None else {}
    chosen = entries(tuple(names or TOPOLOGIES), on_vllm, arguments)
    known = [entry.name for entry in chosen]
    if reference is None:
        reference = "rac" if "rac" in known else known[0]
    elif reference not in known:
        raise UserError(f"--reference {reference}: not in this showdown; it has: {', '.join(known)}")
    silent = quiet or as_json

    def run(request: SessionRequest) -> Outcome:
        assert request.backend is not None
        check_backend(request.backend, request.scenario)
        return run_plain(request, quiet=silent)

    request = SessionRequest(scenario=find(scenario), out=out or default_out("showdown"))
    results, code = run_turns(
        request,
        turns(chosen, repeat),
        run,
        (lambda text: None) if silent else say,
        models=models,
        reference=reference,
    )
    path = request.out / SHOWDOWN
    if as_json:
        say(path.read_text("utf-8").rstrip())
    elif not quiet:
        for line in (*table(rows(results, reference), reference), f"results: {path}"):
            say(line)
    for result in results:
        if result.reason:
            say_error(f"{result.folder}: {result.reason}")
    return code
