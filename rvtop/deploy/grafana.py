"""``rvtop deploy grafana``: the dashboards as files that Grafana imports."""

from __future__ import annotations

from rvtop.deploy.client_dashboards import client, comparison
from rvtop.deploy.panel import Dashboard
from rvtop.deploy.promql import Names
from rvtop.deploy.server_dashboards import cluster, serving


def dashboards(names: Names | None = None) -> tuple[Dashboard, ...]:
    """All of them, for servers that write these ``names`` (Ray 2.53 and later, unless told)."""
    names = names or Names()
    return (cluster(names), serving(names), client(), comparison(names))


def files(names: Names | None = None) -> dict[str, str]:
    """``{path: text}`` of all dashboards."""
    return {f"{one.uid}.json": one.text() for one in dashboards(names)}
