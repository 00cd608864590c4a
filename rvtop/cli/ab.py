"""``rvtop ab``: each request to two servers at the same time, and what differs within the pairs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.cli.load_options import SteadyOptions, TimeoutOptions
from rvtop.cli.option_groups import given, grouped
from rvtop.cli.options import (
    LookOptions,
    MaxRate,
    ModelNames,
    SessionOptions,
    Ui,
    Yes,
    check_ui,
    go,
    positive,
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
from rvtop.contract.pairs import FIGURES, PairOptions
from rvtop.errors import UserError, check_limits
from rvtop.system.startup import import_numpy

if TYPE_CHECKING:
    from rvtop.load.plan.api import Api
    from rvtop.net.transport import Transport
    from rvtop.scenario.schema import Scenario


@grouped
def ab(
    *,
    a: Annotated[str, typer.Argument(help="The reference: a URL, or the name of a deployment (rvtop ps).")],
    b: Annotated[str, typer.Argument(help="What is compared with it; A once more shows the noise.")],
    scenario: Annotated[str | None, typer.Option(help="Scenario file, or the name of a shipped one.")] = None,
    steady: SteadyOptions,
    pairs: Annotated[
        int | None, typer.Option(help="End after so many pairs; default 300, or as long as the scenario.")
    ] = None,
    same: Annotated[int, typer.Option(help="Pairs of A against A that come first; 0: none.")] = 50,
    figure: Annotated[str, typer.Option(help="What you want to know: ttft, tpot or e2e.")] = "ttft",
    until_called: Annotated[
        bool, typer.Option("--until-called", help="End as soon as that figure is called different.")
    ] = False,
    model: ModelNames = None,
    timeout: TimeoutOptions,
    workers: Annotated[str, typer.Option(help="Load workers: a number, or auto.")] = "1",
    max_rate: MaxRate = None,
    session: SessionOptions,
    ui: Ui = "plain",
    look: LookOptions,
    reach: TargetOptions,
    yes: Yes = False,
) -> None:
    """Sends each request to two servers at once; shows B − A. Its intervals hold at every look."""
    check_limits()
    import_numpy()
    from rvtop.load.fleet.workers import parse_workers
    from rvtop.session.pair_plan import with_pairs
    from rvtop.session.request import SessionRequest, default_out

    check_ui(ui)
    session.check()
    positive("--max-rate", max_rate)
    positive("--pairs", pairs)
    if same < 0:
        raise UserError(f"--same {same}: must be 0 or more")
    if figure not in FIGURES:
        raise UserError(f"--figure {figure}: must be one of {', '.join(FIGURES)}")
    timeouts = timeout.timeouts()
    load_key(reach.api_key_file)
    first, second = _url_of(a), _url_of(b)
    transport = transport_from(first, reach)
    pages, body = metrics_urls(reach.metrics_url), body_from(reach.body)
    carriers = parse_workers(workers)
    if carriers.ray:
        raise UserError("--workers ray:N: the two requests of a pair are sent from this machine; give N")
    work, pairs = _work(scenario, steady, pairs)
    work = speaking(work, reach)
    if work.api.whole and figure != "e2e":
        raise UserError(f"--figure {figure}: answers in one piece have none; use --figure e2e")
    options = PairOptions(second, figure, pairs, same, until_called)
    work = with_pairs(work, options)
    models = tuple(model or ())
    first, second = asyncio.run(_probed((first, second), models or work.models, transport, work.api))
    options = replace(options, url=second)
    request = SessionRequest(
        work,
        session.out or default_out("ab"),
        url=first,
        models=models,
        workers=carriers,
        timeouts=timeouts,
        metrics_urls=pages,
        max_rate=max_rate,
        transport=transport,
        body=body,
        kv_events=kv_sources(reach.kv_events_url),
        pair=options,
    )
    raise typer.Exit(go(request, ui, session, yes=yes))


def _url_of(name: str) -> str:
    """The URL of a deployment of that name, else ``name`` as a URL. Raises UserError."""
    from rvtop.lifecycle.state import deployments

    if "://" in name or ":" in name:
        return name
    up = deployments()
    found = next((one for one in up if one.name == name), None)
    if found is None:
        there = ", ".join(one.name for one in up) or "nothing is up"
        raise UserError(f"{name}: neither a URL nor the name of a deployment ({there}; rvtop up starts one)")
    if found.url is None or not found.running:
        raise UserError(f"{name}: is {found.state}, so nothing can be sent there; see rvtop ps")
    return found.url


async def _probed(
    urls: tuple[str, str], wanted: Collection[str], transport: Transport, api: Api
) -> tuple[str, str]:
    """The base URLs of the two, once both can be sent the same; models are chosen by name on each. Raises
    UserError."""
    from rvtop.target.probe import choose_models, models_beside, probe
    from rvtop.target.served import check_served

    second = transport if urls[0] == urls[1] else replace(transport, unix_socket=None)
    a, b = await probe(urls[0], transport), await probe(urls[1], second)
    ours = choose_models(a, wanted, unlisted=not api.generates)
    await check_served(a, api, ours, transport)
    await check_served(b, api, models_beside(b, ours, a), second)
    return a.url, b.url


def _work(name: str | None, steady: SteadyOptions, pairs: int | None) -> tuple[Scenario, int | None]:
    """The scenario, and after how many pairs it ends. Raises UserError, ScenarioError."""
    from rvtop.session.pair_plan import PAIRS, RATE, lasts_s
    from rvtop.session.request import find

    if name is not None:
        if steady.rate is not None:
            raise UserError("give either --scenario or --rate R")
        for option in given(steady):
            if option != "--seed":
                raise UserError(f"{option} goes with --rate: scenario {name} says its own")
        scenario = find(name)
        seed = scenario.seed if steady.seed is None else steady.seed
        return scenario.model_copy(update={"seed": seed}), pairs
    rate = RATE if steady.rate is None else steady.rate
    positive("--rate", rate)
    if "--duration" not in given(steady):
        pairs = pairs or PAIRS
        steady = replace(steady, duration=f"{lasts_s(pairs, rate):g}s")
    return steady.scenario(rate), pairs
