"""``rvtop deploy …``: files for Grafana, Prometheus, Kubernetes and containers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from rvtop.cli.deploy_k8s import k8s
from rvtop.system.stdio import say
from rvtop.text import printable

deploy_app = typer.Typer(
    help="Write what runs beside a server: dashboards, alerts, manifests.", rich_markup_mode=None
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Write there; the folder is made.")]
Force = Annotated[bool, typer.Option("--force", help="Also over files that have another text.")]


@deploy_app.callback()
def deploy() -> None:
    """Write what runs beside a server: dashboards, alerts, manifests."""


def written(out: Path, files: Mapping[str, str], force: bool) -> None:
    """Writes the files and says each one's path. Raises UserError."""
    from rvtop.deploy.files import write_all

    for path in write_all(out, files, force=force):
        say(printable(str(path)))


deploy_app.command()(k8s)
