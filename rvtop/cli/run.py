"""``rvtop run``: a scenario, or a steady rate, on a server that is up or a topology that it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.cli.engine_options import EngineOptions, words_of
from rvtop.cli.load_options import FindMaxOptions, SteadyOptions, TimeoutOptions, WatchOptions, check_figures
from rvtop.cli.option_groups import given, grouped
from rvtop.cli.options import (
    LookOptions,
    MaxRate,
    Models,
    SessionOptions,
    Ui,
    Yes,
    check_topology,
    check_ui,
    go,
    positive,
    probe_target,
)
from rvtop.cli.transport import (
    TargetOptions,
    body_from,
    kv_sources,
    load_key,
    metrics_urls,
    speaking,
    transport_from,
)
from rvtop.errors import UserError, check_limits
from rvtop.system.startup import import_numpy

if TYPE_CHECKING:
    from rvtop.scenario.schema import Scenario
    from rvtop.session.search import SearchOptions


@grouped
def run(
    *,
    scenario: Annotated[
        str | None, typer.Argument(help="Scenario file, or the name of a shipped one.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="URL of a server that is up.")] = None,
    topology: Annotated[
        str | None,
        typer.Option(help="baseline, rac, rsc, rsv, rvc, vllm, graph or a plugin's."),
    ] = None,
    model: Models = None,
    port: Annotated[int, typer.Option(help="Port for the started topology; 0 picks a free one.")] = 0,
    engine: EngineOptions,
    backend_options: Annotated[
        str, typer.Option(help="Further options of python -m backends, as one text.")
    ] = "",
    steady: SteadyOptions,
    timeout: TimeoutOptions,
    workers: Annotated[str, typer.Option(help="Load workers: a number, auto, or ray:N.")] = "1",
    find_max: FindMaxOptions,
    watch: WatchOptions,
    max_rate: MaxRate = None,
    session: SessionOptions,
    ui: Ui = "plain",
    look: LookOptions,
    reach: TargetOptions,
    yes: Yes = False,
) -> None:
    """Replays a scenario, or a steady rate, and leaves a run folder."""
    check_limits()
    import_numpy()
    from rvtop.load.fleet.workers import parse_workers
    from rvtop.session.request import SessionRequest, default_out, topology_options
    from rvtop.target.preflight import check_backend

    check_ui(ui)
    session.check()
    if (target is None) == (topology is None):
        raise UserError("give either --target URL or --topology NAME")
    if topology is not None:
        check_topology(topology)
    positive("--max-rate", max_rate)
    timeouts = timeout.timeouts()
    load_key(reach.api_key_file)
    models = tuple(model or ())
    arguments = (*engine.arguments(), *words_of(backend_options))
    if target is not None and (
        only := [*engine.of_engines(), *(["--backend-options"] if backend_options else [])]
    ):
        raise UserError(f"{only[0]} goes with --topology, not with --target")
    if target is not None and engine.ray_address is not None and not workers.startswith("ray:"):
        raise UserError("--ray-address goes with --topology or --workers ray:N")
    find_max.check()
    watch.check()
    transport = transport_from(target, reach)
    backend = topology_options(topology, models=models, port=port, arguments=arguments) if topology else None
    carriers = parse_workers(workers)
    search = find_max.search(steady.rate, max_rate)
    if search is not None and watch.stop_when_saturated:
        raise UserError(
            "--stop-when-saturated goes not with --find-max, which steps beyond what the server holds"
        )
    pages, body = metrics_urls(reach.metrics_url), body_from(reach.body)
    published = kv_sources(reach.kv_events_url)
    work = speaking(_scenario(scenario, steady, search), reach)
    check_figures(work, search, watch.probe_rate, stop_when_saturated=watch.stop_when_saturated)
    request = SessionRequest(
        work,
        session.out or default_out(work.name),
        url=target,
        backend=backend,
        models=models if target else (),
        workers=carriers,
        ray_address=engine.ray_address,
        search=search,
        timeouts=timeouts,
        metrics_urls=pages,
        max_rate=max_rate,
        transport=transport,
        body=body,
        stop_when_saturated=watch.stop_when_saturated,
        exclude_warm_up=watch.exclude_warm_up,
        probe_rate=watch.probe_rate,
        kv_events=published,
    )
    if backend is not None:
        check_backend(backend, work)
    if target is not None:
        probe_target(target, request.models or work.models, transport, work.api)
    raise typer.Exit(go(request, ui, session, yes=yes))


def _scenario(name: str | None, steady: SteadyOptions, search: SearchOptions | None) -> Scenario:
    """The scenario of that name, or one made of options. Raises UserError, ScenarioError."""
    from rvtop.session.request import find

    rate = steady.rate
    if search is not None and rate is None:
        rate = search.start_rps
    elif (name is None) == (rate is None):
        raise UserError("give either a scenario (rvtop run smoke …) or --rate R")
    if name is None:
        return steady.scenario(rate)
    scenario = find(name)
    for option in given(steady):
        if option not in ("--rate", "--seed"):
            raise UserError(f"{option} goes with --rate: scenario {scenario.name} says its own")
    return scenario if steady.seed is None else scenario.model_copy(update={"seed": steady.seed})
