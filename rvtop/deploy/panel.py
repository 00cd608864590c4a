"""Panels and dashboards as values, and their JSON as Grafana 10 and later import it (schema 39)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Width of a dashboard in Grafana's cells.
WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression; ``legend`` names its lines, with ``{{label}}``."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. ``about``: a sentence. ``unit``: Grafana's name. ``kind``: timeseries, stat or heatmap.
    ``width`` and ``height`` in cells; ``defaults``, ``overrides`` and ``options`` add to what all have."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice above the panels: the values of a ``label`` of ``series``, several at once, all at first."""

    name: str
    label: str
    series: str
    of: str

    @property
    def query(self) -> str:
        """As Grafana's Prometheus source reads it."""
        return f"label_values({self.series}, {self.of})"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """``rows``: (title, its panels); a title "" has no heading of its own."""

    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, in order."""
        return tuple(panel for _, panels in self.rows for panel in panels)

    def text(self) -> str:
        """The file that Grafana imports."""
        return json.dumps(self.json(), indent=1, ensure_ascii=False) + "\n"

    def json(self) -> dict[str, Any]:
        """The dashboard, with a choice of the Prometheus to ask."""
        return {
            "title": self.title,
            "uid": self.uid,
            "tags": ["rvtop", "llm"],
            "description": self.about,
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "5s",
            "timezone": "",
            "time": {"from": "now-15m", "to": "now"},
            "templating": {"list": [_DATASOURCE, *(_variable(one) for one in self.variables)]},
            "annotations": {"list": []},
            "links": [],
            "panels": list(_placed(self.rows)),
        }


_DATASOURCE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "hide": 0,
}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def _placed(rows: tuple[tuple[str, tuple[Panel, ...]], ...]) -> Iterator[dict[str, Any]]:
    """The panels from left to right, row after row, each row's heading above it."""
    number, y = 0, 0
    for title, panels in rows:
        if title:
            number += 1
            place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            yield {
                "id": number,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
            y += 1
        x = height = 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield _panel(panel, number, place)
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, **panel.defaults},
            "overrides": list(panel.overrides),
        },
        "targets": [_target(query, index, panel.kind) for index, query in enumerate(panel.queries)],
        "options": {**_OPTIONS[panel.kind], **panel.options},
    }


def _target(query: Query, index: int, kind: str) -> dict[str, Any]:
    return {
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "refId": chr(ord("A") + index),
        "editorMode": "code",
        "range": True,
        **({"format": "heatmap"} if kind == "heatmap" else {}),
    }


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
    },
    "heatmap": {
        "calculate": False,
        "yAxis": {"unit": "s"},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "cellGap": 1,
        "tooltip": {"show": True, "yHistogram": False},
        "legend": {"show": True},
    },
}
