"""``rvtop run``: a scenario, or a steady rate, on a server that is up or a topology that it starts."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.cli.options import (
    Ascii,
    Control,
    EngineArgs,
    KeyFile,
    MaxRate,
    MetricsUrls,
    Models,
    Out,
    RayAddress,
    Readonly,
    RecordTo,
    Theme,
    Ui,
    Yes,
    backend_arguments,
    check_topology,
    check_ui,
    go,
    load_key,
    metrics_urls,
    positive,
    probe_target,
    seconds,
)
from rvtop.cli.serve import Serve, ServeControl, ServeOn, asked_for
from rvtop.cli.transport import (
    Body,
    Ca,
    Cert,
    HeaderFile,
    Headers,
    Insecure,
    Key,
    KeyHeader,
    UnixSocket,
    body_from,
    transport_from,
)
from rvtop.errors import UserError, check_limits

if TYPE_CHECKING:
    from rvtop.session.search import SearchOptions


def run(
    scenario: Annotated[
        str | None, typer.Argument(help="Scenario file, or the name of a shipped one.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="URL of a server that is up.")] = None,
    topology: Annotated[str | None, typer.Option(help="Topology to start: baseline, rac, rsc, rvc.")] = None,
    model: Models = None,
    port: Annotated[int, typer.Option(help="Port for the started topology; 0 picks a free one.")] = 0,
    ray_address: RayAddress = None,
    engine_arg: EngineArgs = None,
    backend_options: Annotated[
        str, typer.Option(help="Further options of python -m backends, as one text.")
    ] = "",
    rate: Annotated[float | None, typer.Option(help="Requests per second, instead of a scenario.")] = None,
    duration: Annotated[
        str, typer.Option(help="How long, with --rate: 30s, 2m; a number is seconds.")
    ] = "30s",
    prompt_tokens: Annotated[int | None, typer.Option(help="Synthetic prompts of this length.")] = None,
    output_tokens: Annotated[int, typer.Option(help="Tokens to generate for each request.")] = 128,
    arrivals: Annotated[str, typer.Option(help="constant, poisson or gamma.")] = "poisson",
    burstiness: Annotated[float | None, typer.Option(help="Shape of gamma arrivals; 1 is Poisson.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of arrivals and synthetic prompts.")] = None,
    connect_timeout: Annotated[str, typer.Option(help="Time until a connection must stand.")] = "5s",
    ttft_timeout: Annotated[
        str | None, typer.Option(help="Time until the first token; default none.")
    ] = None,
    stall_timeout: Annotated[str, typer.Option(help="Time without a byte in a stream.")] = "60s",
    workers: Annotated[str, typer.Option(help="Load workers: a number, auto, or ray:N.")] = "1",
    find_max: Annotated[
        bool, typer.Option("--find-max", help="Search the highest rate that holds --slo.")
    ] = False,
    slo: Annotated[str | None, typer.Option(help="For --find-max: ttft_p99=200,tpot_mean=50 (ms).")] = None,
    step: Annotated[
        str, typer.Option(help="For --find-max: a step's least length; about 100 requests make it longer.")
    ] = "10s",
    hold: Annotated[str, typer.Option(help="For --find-max: least length of the confirmation.")] = "30s",
    metrics_url: MetricsUrls = None,
    max_rate: MaxRate = None,
    out: Out = None,
    control: Control = None,
    record: RecordTo = None,
    readonly: Readonly = False,
    serve: Serve = False,
    serve_on: ServeOn = None,
    serve_control: ServeControl = False,
    ui: Ui = "plain",
    theme: Theme = None,
    ascii: Ascii = False,
    api_key_file: KeyFile = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    insecure: Insecure = False,
    unix_socket: UnixSocket = None,
    header: Headers = None,
    header_file: HeaderFile = None,
    api_key_header: KeyHeader = "Authorization",
    body: Body = None,
    yes: Yes = False,
) -> None:
    """Replays a scenario, or a steady rate, and leaves a run folder."""
    check_limits()
    from rvtop.load.fleet.workers import parse_workers
    from rvtop.load.wire.timeouts import Timeouts
    from rvtop.session.request import run_request, topology_options
    from rvtop.target.preflight import check_backend

    check_ui(ui)
    web = asked_for(serve, serve_on, serve_control)
    if (target is None) == (topology is None):
        raise UserError("give either --target URL or --topology NAME")
    if topology is not None:
        check_topology(topology)
    positive("--max-rate", max_rate)
    timeouts = Timeouts(
        seconds("--connect-timeout", connect_timeout),
        None if ttft_timeout is None else seconds("--ttft-timeout", ttft_timeout),
        seconds("--stall-timeout", stall_timeout),
    )
    load_key(api_key_file)
    models = tuple(model or ())
    try:
        arguments = (*backend_arguments(ray_address, engine_arg), *shlex.split(backend_options))
    except ValueError as error:  # a quotation mark that is never closed
        raise UserError(f"--backend-options: {error}") from None
    if target is not None and (engine_arg or backend_options):
        raise UserError("--engine-arg and --backend-options go with --topology")
    if target is not None and ray_address is not None and not workers.startswith("ray:"):
        raise UserError("--ray-address goes with --topology or --workers ray:N")
    if find_max != (slo is not None):
        raise UserError("--find-max and --slo go together: --find-max --slo ttft_p99=200,tpot_mean=50")
    transport = transport_from(
        target,
        ca=ca,
        cert=cert,
        key=key,
        insecure=insecure,
        unix_socket=unix_socket,
        headers=header,
        header_file=header_file,
        key_header=api_key_header,
    )
    request = run_request(
        scenario,
        out,
        rate=rate,
        duration=duration,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        arrivals=arrivals,
        burstiness=burstiness,
        seed=seed,
        url=target,
        backend=topology_options(topology, models=models, port=port, arguments=arguments)
        if topology
        else None,
        models=models if target else (),
        workers=parse_workers(workers),
        ray_address=ray_address,
        search=search_from(slo, rate, max_rate, step, hold) if find_max else None,
        timeouts=timeouts,
        metrics_urls=metrics_urls(metrics_url),
        max_rate=max_rate,
        transport=transport,
        body=body_from(body),
    )
    if request.backend is not None:
        check_backend(request.backend, request.scenario)
    if target is not None:
        models = request.models or (request.scenario.models if request.scenario else ())
        probe_target(target, models, transport)
    request = replace(request, control=control, record=record)
    raise typer.Exit(go(request, ui, yes=yes, readonly=readonly, web=web))


def search_from(
    slo: str | None, rate: float | None, max_rate: float | None, step: str, hold: str
) -> SearchOptions:
    """The options of ``--find-max``. Raises UserError."""
    import math

    from rvtop.session.search import SearchOptions, parse_slo

    lengths = [seconds("--step", step), seconds("--hold", hold)]
    positive("--rate", rate)
    limit = math.inf if max_rate is None else max_rate
    return SearchOptions(parse_slo(slo or ""), min(rate or 1.0, limit), limit, *lengths)
