"""``rvtop showdown``: topologies one after another with the same work, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.cli.option_groups import grouped
from rvtop.cli.options import LookOptions, Out, RayAddress, Ui, check_ui, no_screen
from rvtop.errors import UserError, check_limits
from rvtop.system.files import written_for
from rvtop.system.stdio import say, say_error, say_nothing

if TYPE_CHECKING:
    from rvtop.session.request import Outcome, SessionRequest
    from rvtop.study.entries import Entry
    from rvtop.study.showdown import ShowdownRun


@dataclass(frozen=True)
class SameForAll:
    """The options of a showdown that every topology is started with."""

    model: Annotated[
        list[str] | None, typer.Option(help="What each serves, as name=path; repeat for several.")
    ] = None
    ray_address: RayAddress = None
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of each engine; default its part of the cores less one.")
    ] = None
    dtype: Annotated[
        str | None, typer.Option(help="Data type of the weights; default bfloat16 on a GPU, else float32.")
    ] = None
    max_model_len: Annotated[int | None, typer.Option(help="Context in tokens; default the model's own.")] = (
        None
    )
    num_replicas: Annotated[int | None, typer.Option(help="Engines per model on Ray; default one a GPU.")] = (
        None
    )

    @property
    def models(self) -> tuple[str, ...]:
        """What is served, as ``name=path``."""
        return tuple(self.model or ())


@grouped
def showdown(
    *,
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    topologies: Annotated[
        str | None, typer.Option(help="Which, in this order; default baseline,rac,rsc,rvc.")
    ] = None,
    repeat: Annotated[int, typer.Option(help="Times that each runs; every second time in reverse.")] = 1,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again until it is ended.")] = False,
    reference: Annotated[
        str | None, typer.Option(help="What changes are told against; default rac, or the first.")
    ] = None,
    same: SameForAll,
    out: Out = None,
    ui: Ui = "dashboard",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page of it that needs no other file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON alone.")] = False,
    look: LookOptions,
) -> None:
    """Runs topologies in turn on the same requests; compares them."""
    check_ui(ui)
    if repeat < 1:
        raise UserError(f"--repeat {repeat}: must be 1 or more")
    if loop and repeat != 1:
        raise UserError(f"--loop runs without end: without --repeat {repeat}")
    code = compare(
        scenario,
        topologies.split(",") if topologies is not None else None,
        out=out,
        reference=reference,
        repeat=None if loop else repeat,
        same=same,
        ui=ui,
        as_json=as_json,
        html=html,
    )
    raise typer.Exit(code)


def compare(
    scenario: str,
    names: Sequence[str] | None = None,
    *,
    out: Path | None,
    reference: str | None = None,
    repeat: int | None = 1,
    same: SameForAll | None = None,
    ui: str = "plain",
    as_json: bool = False,
    html: Path | None = None,
) -> int:
    """Runs the showdown and prints its table; returns the exit code. ``repeat`` None: without end. Raises
    UserError."""
    check_limits()
    from rvtop.study.rows import table
    from rvtop.study.showdown import SHOWDOWN
    from rvtop.study.turns import run_turns

    run = prepared(scenario, names, out, reference, repeat, same or SameForAll())
    why = no_screen() if ui == "dashboard" and not as_json else ""
    if why.startswith("TERM"):  # in a pipe plain lines are what was meant
        say_error(f"plain lines instead of the dashboard: {why}")
    if ui == "dashboard" and not why and not as_json:
        from rvtop.cli.dashboard import show_showdown

        code = show_showdown(run, check)
    else:
        silent = ui == "none" or as_json
        code = run_turns(
            run, lambda request: plain_session(request, quiet=silent), say_nothing if silent else say
        )
    path = run.request.out / SHOWDOWN
    if as_json:
        say(path.read_text("utf-8").rstrip())
    elif ui != "none" and run.results:
        for line in (*table(run.rows, run.reference, run.notes), f"results: {path}"):
            say(line)
    if html is not None and run.results:
        from rvtop.study.pages import showdown_page

        name = run.request.scenario.name if run.request.scenario is not None else ""
        page = showdown_page(name, run.rows, run.reference, run.notes, run.request.out)
        with written_for("--html", html) as part:
            part.write_text(page, "utf-8")
    for result in run.results:
        if result.reason:
            say_error(f"{result.folder}: {result.reason}")
    return code


def check(request: SessionRequest) -> None:
    """Raises UserError for a topology of a showdown that can't start."""
    from rvtop.target.preflight import check_backend

    assert request.backend is not None
    check_backend(request.backend, request.scenario)


def plain_session(request: SessionRequest, *, quiet: bool) -> Outcome:
    """A session with plain lines, or none. Raises UserError where its topology can't start."""
    from rvtop.plain import run_plain

    check(request)
    return run_plain(request, quiet=quiet)


def prepared(
    scenario: str,
    names: Sequence[str] | None,
    out: Path | None,
    reference: str | None,
    repeat: int | None,
    same: SameForAll,
) -> ShowdownRun:
    """The showdown that was asked for; nothing has started yet. Raises UserError."""
    from rvtop.cli.config import with_prices
    from rvtop.session.request import SessionRequest, default_out, find
    from rvtop.study.knobs import equal_lengths
    from rvtop.study.showdown import SHOWDOWN, Plan, ShowdownRun

    chosen, reference = names_and_reference(names, reference)
    if out is not None and (out / SHOWDOWN).exists():
        raise UserError(f"--out {out}: holds a showdown already; give another folder")
    asked = equal_lengths(find(scenario))
    listed = listed_entries(chosen, same)
    request = with_prices(SessionRequest(scenario=asked, out=out or default_out("showdown")))
    return ShowdownRun(request, Plan(listed, repeat, reference, same.models))


def names_and_reference(names: Sequence[str] | None, reference: str | None) -> tuple[tuple[str, ...], str]:
    """The topologies, those of the experiment unless named, and the row that others are compared with.
    Raises UserError."""
    from rvtop.study.entries import entries
    from rvtop.target.topologies import TOPOLOGIES

    chosen = tuple(names or (name for name, topology in TOPOLOGIES.items() if topology.experiment))
    for name in chosen:
        if name not in TOPOLOGIES:
            raise UserError(f"--topologies: {name!r} is unknown; known are: {', '.join(TOPOLOGIES)}")
    known = [entry.name for entry in entries(chosen, _on_vllm())]
    if reference is None:
        reference = "rac" if "rac" in known else known[0]
    elif reference not in known:
        raise UserError(f"--reference {reference}: is not among what runs: {', '.join(known)}")
    return chosen, reference


def listed_entries(chosen: Sequence[str], same: SameForAll) -> tuple[Entry, ...]:
    """What is started, with the knobs that are the same for all. Raises UserError."""
    from rvtop.study.entries import entries

    return entries(chosen, _on_vllm(), _arguments(chosen, same))


def _on_vllm() -> frozenset[str]:
    from rvtop.target.topologies import TOPOLOGIES

    return frozenset(name for name, topology in TOPOLOGIES.items() if "vllm" in topology.extras)


def _arguments(chosen: Sequence[str], same: SameForAll) -> dict[str, tuple[str, ...]]:
    """The options of ``python -m backends`` that are the same for all, as far as a topology knows them."""
    from rvtop.doctor.gpus import probe
    from rvtop.load.fleet.workers import cores
    from rvtop.study.knobs import knobs_for
    from rvtop.target.topologies import TOPOLOGIES

    knobs = knobs_for(
        cores=cores(),
        models=_served(chosen[0], same.models),
        gpu=probe()[0] is not None,
        threads=same.threads,
        dtype=same.dtype,
        max_model_len=same.max_model_len,
        num_replicas=same.num_replicas,
    )
    made = {}
    for name in chosen:
        topology = TOPOLOGIES[name]
        on_ray = "ray" in topology.extras
        address = ("--ray-address", same.ray_address) if on_ray and same.ray_address is not None else ()
        several = on_ray or "vllm" in topology.extras
        made[name] = (*address, *knobs.arguments(several=several, stages=topology.stages))
    return made


def _served(topology: str, models: Sequence[str]) -> int:
    """How many models a topology serves; where it can't be asked, its own turn says why."""
    from rvtop.session.request import topology_options
    from rvtop.target.preflight import check_backend

    try:
        return len(check_backend(topology_options(topology, models=models, port=0, arguments=())))
    except UserError as error:
        if error.exit_code == 130:  # ctrl+c
            raise
        return len(models)
