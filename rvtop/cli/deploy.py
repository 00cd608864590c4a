"""``rvtop deploy …``: files for Grafana, Prometheus, Kubernetes and containers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say
from rvtop.text import printable

deploy_app = typer.Typer(
    help="Writes dashboards, alerts, Kubernetes manifests, containers.", rich_markup_mode=None
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Write there; the folder is made.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that have another text.")]

RayBefore = Annotated[
    bool,
    typer.Option(
        "--ray-before-2.53", help="Names as Ray up to 2.52 may write them: counters without _total."
    ),
]


@deploy_app.callback()
def deploy() -> None:
    """Writes dashboards, alerts, Kubernetes manifests, containers."""


def written(out: Path, files: Mapping[str, str], force: bool) -> None:
    """Writes the files and says each one's path. Raises UserError."""
    from rvtop.deploy.files import write_all

    for path in write_all(out, files, force=force):
        say(printable(str(path)))


@deploy_app.command()
def grafana(
    out: Out,
    ray_before_2_53: RayBefore = False,
    force: Force = False,
) -> None:
    """Grafana dashboards: cluster, serving, client, comparison."""
    from rvtop.deploy.grafana import files
    from rvtop.deploy.promql import Names

    written(out, files(Names(ray_before_2_53)), force)


@deploy_app.command()
def alerts(
    out: Out,
    slo: Annotated[
        str, typer.Option(help="The limits: ttft_p99=200,itl_p99=50,tpot_mean=40 (ms), error_rate=0.01.")
    ] = "ttft_p99=2000",
    kv: Annotated[float, typer.Option(help="Share of the KV cache, 0 to 1, that may be in use.")] = 0.95,
    window: Annotated[str, typer.Option(help="Window of every rate: at least four scrapes.")] = "2m",
    hold: Annotated[str, typer.Option("--for", help="How long it lasts before it fires.")] = "1m",
    ray_before_2_53: RayBefore = False,
    force: Force = False,
) -> None:
    """Prometheus alerts, by the SLO. Each names the screen of rvtop to open."""
    from rvtop.deploy.alerts import Limits, files
    from rvtop.deploy.promql import Names
    from rvtop.session.search import parse_slo

    if not 0 < kv < 1:
        raise UserError(f"--kv {kv:g}: must be between 0 and 1, such as 0.95")
    for option, text in (("--window", window), ("--for", hold)):
        if not re.fullmatch(r"(\d+(ms|[smhdwy]))+|0", text):
            raise UserError(f"{option} {text}: must be a time as Prometheus writes it, such as 90s or 2m")
    written(out, files(Limits(parse_slo(slo), kv, window, hold), Names(ray_before_2_53)), force)
