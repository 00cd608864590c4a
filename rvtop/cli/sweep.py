"""``rvtop sweep``: one topology with each combination of engine arguments, with the same load."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.cli.engine_options import EngineOptions, words_of
from rvtop.cli.option_groups import grouped
from rvtop.cli.options import Out, Served, check_topology
from rvtop.errors import UserError, check_limits
from rvtop.system.files import written_for
from rvtop.system.stdio import say, say_error, say_nothing

if TYPE_CHECKING:
    from rvtop.study.sweep import SweepPlan

#: Cells of the picture.
_WIDTH, _HEIGHT = 100, 16


@grouped
def sweep(
    *,
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    topology: Annotated[str, typer.Option(help="Topology to start with each combination: rvc, ….")],
    vary: Annotated[
        list[str], typer.Option(help="Engine argument and its values: max_num_seqs=64,256; repeat.")
    ],
    model: Served = None,
    engine: EngineOptions,
    backend_options: Annotated[
        str, typer.Option(help="Further options of python -m backends, as one text.")
    ] = "",
    repeat: Annotated[int, typer.Option(help="Times that each combination runs.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the order in which they run.")] = 0,
    out: Out = None,
    ui: Annotated[str, typer.Option("--ui", help="plain or none.")] = "plain",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page of it that needs no other file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON alone.")] = False,
) -> None:
    """Runs a topology with each combination of engine arguments. Names the best one under the SLO."""
    if ui not in ("plain", "none"):
        raise UserError(f"--ui {ui}: must be plain or none")
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: must be 1 or more")
    check_topology(topology)
    check_limits()
    from rvtop.cli.config import with_settings
    from rvtop.cli.showdown import plain_session
    from rvtop.session.request import SessionRequest, default_out, find, topology_options
    from rvtop.study.knobs import equal_lengths
    from rvtop.study.sweep import SWEEP, SweepPlan, SweepRun, combinations
    from rvtop.study.turns import run_turns

    found = combinations(vary)
    _check_engine(topology)
    arguments = (*engine.arguments(), *words_of(backend_options))
    work = equal_lengths(find(scenario))
    models = tuple(model or ())
    folder = out or default_out(f"sweep-{work.name}")
    backend = topology_options(topology, models=models, port=0, arguments=arguments)
    request = with_settings(SessionRequest(scenario=work, out=folder, backend=backend))
    assert request.scenario is not None
    limits = request.scenario.slo.model_dump(exclude_none=True) if request.scenario.slo is not None else {}
    slo = {key: float(value) for key, value in (limits or dict(request.slo)).items()}
    written = request.scenario.model_dump_json()
    run = SweepRun(request, SweepPlan(topology, found, repeat, seed, models, arguments, slo, written))
    quiet = ui == "none" or as_json
    told = say_nothing if quiet else say
    if run.resumed:
        told(f"sweep: {run.resumed} of {run.resumed + run.total} are done already in {folder}")
    code = run_turns(run, lambda asked: plain_session(asked, quiet=quiet), told)
    if as_json:
        say((folder / SWEEP).read_text("utf-8").rstrip())
    elif not quiet and run.results:
        for line in _shown(run.rows, run.plan, folder / SWEEP):
            say(line)
    if html is not None and run.results:
        from rvtop.study.pages import sweep_page

        page = sweep_page(work.name, topology, run.rows, slo, folder)
        with written_for("--html", html) as part:
            part.write_text(page, "utf-8")
    for result in run.results:
        if result.reason:
            say_error(f"{result.folder}: {result.reason}")
    if code == 130:
        say_error(
            f"interrupted; the same command with --out {shlex.quote(str(folder))} goes on with the rest"
        )
    raise typer.Exit(code)


def _check_engine(topology: str) -> None:
    """Raises UserError for a topology that takes no engine arguments."""
    from rvtop.target.topologies import TOPOLOGIES

    if "vllm" not in TOPOLOGIES[topology].extras:
        able = [name for name, one in TOPOLOGIES.items() if "vllm" in one.extras]
        raise UserError(f"--topology {topology}: has no engine arguments; use {' or '.join(able)}")


def _shown(rows: list[dict[str, Any]], plan: SweepPlan, path: Path) -> list[str]:
    from rvtop.study.sweep_rows import table
    from rvtop.ui.pareto_lines import pareto_lines

    picture = [line.text.rstrip() for line in pareto_lines(rows, _WIDTH, _HEIGHT, plan.slo.get("ttft_ms"))]
    return [*picture, "", *table(rows, plan.slo), f"results: {path}"]
