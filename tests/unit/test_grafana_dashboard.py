"""The dashboard of the client's figures: all that it asks for is on the page, with the labels it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rvtop.contract.snapshot import Load, Snapshot, Target, Tokens
from rvtop.deploy.client_dashboards import client
from rvtop.session.metrics_page import LATENCIES, Measured, metrics
from rvtop.stats.histogram import Histogram

DASHBOARD: dict[str, Any] = client().json()
#: What stands in these expressions beside names of figures.
WORDS = {"sum", "max", "by", "or", "vector", "rate", "increase", "histogram_quantile", "label_values"}
#: Labels that Prometheus adds itself, or that a bucket has.
THEIRS = {"instance"}
_STRING = re.compile(r'"[^"]*"')
_MATCHERS = re.compile(r"\{([^}]*)\}")
_NAME = re.compile(r"(?<![$\w])[a-zA-Z_:][\w:]*")


def served() -> dict[str, set[str]]:
    """The samples of a page that has all figures, each with its labels."""
    load = Load(
        target_rps=1.0,
        offered_rps=1.0,
        sent_rps=1.0,
        completed_rps=1.0,
        goodput_rps=1.0,
        lag_p99_ms=1.0,
        errors=(("http_500", 1),),
    )
    target = Target("http://127.0.0.1:1", "rvc", ("m",))
    picture = Snapshot(1, 1.0, 1.0, "running", "s", target, load=load, tokens=Tokens(total=1, per_s=1.0))
    some = Histogram.of(np.array([1_000_000], np.int64)).distribution()
    found: dict[str, set[str]] = {}
    for family in metrics(Measured(picture, dict.fromkeys(LATENCIES, some))):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def asked() -> Iterator[tuple[str, str, str]]:
    """(panel, expression, legend) of all that the dashboard asks for."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"], ""


@pytest.mark.parametrize(("where", "expression", "legend"), list(asked()))
def test_each_figure_is_one_that_the_page_serves(where: str, expression: str, legend: str) -> None:
    page = served()
    bare = _STRING.sub('""', expression.replace("[$__rate_interval]", "").replace("[1m]", ""))
    matched = {name for part in _MATCHERS.findall(bare) for name in _NAME.findall(part)}
    names = set(_NAME.findall(_MATCHERS.sub("", bare))) - WORDS
    figures = {name for name in names if name.startswith("rvtop_")}
    assert figures, where
    assert figures <= set(page)
    labels = {label for figure in figures for label in page[figure]} | THEIRS
    assert matched <= labels
    assert names - figures <= labels  # of by (…)
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels


@pytest.mark.parametrize(("where", "expression", "legend"), list(asked()))
def test_brackets_close_and_a_counter_is_read_as_a_rate(where: str, expression: str, legend: str) -> None:
    bare, closing = _STRING.sub("", expression), {")": "(", "]": "[", "}": "{"}
    open_ones: list[str] = []
    for sign in bare:
        if sign in "([{":
            open_ones.append(sign)
        elif sign in closing:
            assert open_ones.pop() == closing[sign], where
    assert open_ones == []
    for counter in re.findall(r"rvtop_\w+_(?:total|bucket|sum|count)\b\{[^}]*\}(.?)", bare):
        assert counter == "[", where
    for selector in re.finditer(r"(\w+)\(rvtop_\w+(?:_total|_bucket|_sum|_count)\{", bare):
        assert selector[1] in ("rate", "increase"), where


def test_all_figures_of_the_page_are_on_it() -> None:
    text = " ".join(expression for _, expression, _ in asked())
    families = {re.sub(r"_(total|bucket|sum|count|created|info)$", "", name) for name in served()}
    assert {name for name in families if name not in text} == set()


def test_panels_do_not_overlap_and_are_told_apart() -> None:
    panels = DASHBOARD["panels"]
    cells: list[tuple[int, int]] = []
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells += [(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"].endswith(".")
