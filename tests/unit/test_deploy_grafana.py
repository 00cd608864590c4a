"""``rvtop deploy grafana``: panels and variables ask for what recorded pages have, all of the table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rvtop.contract.figures import BY_KEY, SHOWN
from rvtop.deploy import promql
from rvtop.deploy.grafana import dashboards, files
from rvtop.deploy.panel import Dashboard
from rvtop.deploy.promql import Names
from tests.conftest import Rvtop
from tests.unit.prom_names import asked_names, labels_of, recorded
from tests.unit.test_grafana_dashboard import served

#: No recorded page is of an engine that drafts tokens.
NOT_RECORDED = ("spec_decode_",)
SOURCES = Path("/work/shared/sources")


def asked(made: tuple[Dashboard, ...]) -> Iterator[tuple[str, str, str]]:
    """(where, expression, legend) of all panels and variables."""
    for one in made:
        for panel in one.panels:
            for query in panel.queries:
                yield f"{one.uid}: {panel.title}", query.expr, query.legend
        for variable in one.variables:
            yield f"{one.uid}: ${variable.name}", variable.series, f"{{{{{variable.of}}}}}"


def missing(made: tuple[Dashboard, ...], old: bool) -> list[str]:
    """What is asked for and is on no page: names, labels of matchers, of groups and of legends."""
    pages = {**recorded(old), **served()}
    found = []
    for where, expr, legend in asked(made):
        had: set[str] = {"job", "instance"}
        for name, labels in asked_names(expr, old):
            if name.startswith("ray_vllm") or any(part in name for part in NOT_RECORDED):
                continue
            had |= pages.get(name, set())
            if name not in pages or not labels <= pages[name] | {"job", "instance"}:
                found.append(f"{where}: {name} {sorted(labels - pages.get(name, set()))}")
        if not any(part in expr for part in NOT_RECORDED):
            shown = set(re.findall(r"\{\{(\w+)\}\}", legend)) - {"le"}
            if "rvtop_client_info" in expr:
                had.add("topology")
            found += [f"{where}: {label}" for label in (labels_of(expr) | shown) - had]
    return found


@pytest.mark.parametrize("old", [False, True], ids=["ray 2.60", "ray 2.44"])
def test_each_panel_and_variable_asks_for_what_is_on_a_recorded_page(old: bool) -> None:
    made = dashboards(Names(ray_before_2_53=old))
    assert missing(made, old) == []
    assert sum(1 for _ in asked(made)) > 80


@pytest.mark.parametrize("key", ["ttft", "requests_ok", "kv_usage", "preemptions", "prefix_hits"])
def test_a_figure_that_is_renamed_in_the_table_is_missed(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = replace(BY_KEY[key], suffixes=("renamed",))
    monkeypatch.setitem(BY_KEY, key, renamed)  # type: ignore[arg-type]
    assert any("renamed" in line for line in missing(dashboards(), False))


def test_one_of_ray_s_that_is_renamed_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = promql._RAY["deployment", "queued"]
    monkeypatch.setitem(promql._RAY, ("deployment", "queued"), replace(known, series="ray_serve_renamed"))
    assert any("ray_serve_renamed" in line for line in missing(dashboards(), False))


def test_names_of_ray_up_to_2_52_have_no_total() -> None:
    text = "".join(files(Names(ray_before_2_53=True)).values())
    assert re.findall(r"ray_\w+_total\b(?!_)", text.replace("ray_node_mem_total", "")) == []
    assert "ray_serve_deployment_request_counter{" in text
    assert "ray_serve_deployment_request_counter_total{" in "".join(files().values())


def test_every_figure_that_rvtop_shows_is_on_a_panel() -> None:
    text = " ".join(expr for _, expr, _ in asked(dashboards()))
    for figure in (one for one in SHOWN if one.kind != "info"):  # its value is no figure
        for part in figure.parts or (figure.key,):
            assert any(suffix in text for suffix in BY_KEY[part].suffixes), figure.key


def test_the_issue_s_rows_and_variables_are_there() -> None:
    made = {one.uid: one for one in dashboards()}
    titles = {panel.title for one in made.values() for panel in one.panels}
    assert titles >= {
        *("Request rate by deployment", "Latency inside replicas", "Queue by deployment", "Replicas", "TTFT"),
        *("ITL", "KV cache", "Preemptions", "Prefix hits", "GPU use", "GPU memory", "GPU power"),
        "Energy per token",
    }
    names = {variable.name for one in made.values() for variable in one.variables}
    assert names >= {"node", "deployment", "model", "arm"}
    for one in made.values():
        for variable in one.variables:
            assert f"${variable.name}" in one.text().replace(f'"name": "{variable.name}"', "")


@pytest.mark.parametrize("one", dashboards(), ids=lambda one: one.uid)
def test_panels_stand_side_by_side_and_each_asks_the_chosen_prometheus(one: Dashboard) -> None:
    cells: list[tuple[int, int]] = []
    panels: list[dict[str, Any]] = one.json()["panels"]
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells += [(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])]
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"].endswith(".")
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel.title for panel in one.panels]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("one", dashboards(), ids=lambda one: one.uid)
def test_grafana_s_own_model_reads_and_writes_the_same(one: Dashboard) -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    runtime = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    runtime.register_default_plugins()
    given = json.loads(one.text())
    read = models.Dashboard.from_json(json.loads(one.text()))
    written = json.loads(json.dumps(read, cls=encoder.JSONEncoder))
    assert lost(given, written) == []


def lost(given: Any, written: Any, where: str = "") -> list[str]:
    """What of ``given`` is not in ``written``: the model drops what it does not know."""
    if isinstance(given, dict):
        return [
            line
            for key, value in given.items()
            for line in (
                lost(value, written[key], f"{where}.{key}")
                if isinstance(written, dict) and key in written
                else [f"{where}.{key}"]
            )
        ]
    if isinstance(given, list):
        if not isinstance(written, list) or len(written) != len(given):
            return [where]
        pairs = zip(given, written, strict=True)
        return [line for i, (one, other) in enumerate(pairs) for line in lost(one, other, f"{where}[{i}]")]
    return [] if given == written else [f"{where}: {given!r} became {written!r}"]


def test_the_command_writes_four_files(rvtop_here: Rvtop, tmp_path: Path) -> None:
    code, out, _ = rvtop_here("deploy", "grafana", "--out", tmp_path / "new")
    assert code == 0
    written = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in written] == [
        *("rvtop-client.json", "rvtop-cluster.json", "rvtop-comparison.json", "rvtop-serving.json"),
    ]
    assert sorted(out.split()) == [str(path) for path in written]
    assert json.loads(written[0].read_text())["uid"] == "rvtop-client"
    (tmp_path / "file").write_text("")
    code, _, err = rvtop_here("deploy", "grafana", "--out", tmp_path / "file")
    assert (code, err.count("\n")) == (2, 1)
    assert "--out" in err


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt install prometheus")
@pytest.mark.parametrize("old", [False, True], ids=["ray 2.60", "ray 2.44"])
def test_prometheus_parses_every_expression(old: bool, tmp_path: Path) -> None:
    made = dashboards(Names(ray_before_2_53=old))
    rules = [
        {"record": f"rvtop:panel_{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, (_, expr, _) in enumerate(asked(made))
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", "rules.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(rules)} rules found" in checked.stdout


def plain(expr: str) -> str:
    """An expression as the docs have it: all of every variable, and five minutes."""
    return re.sub(r"\{[^}]*\}", "", expr).replace("$__rate_interval", "5m")


def test_the_queries_of_the_docs_are_those_of_the_panels() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    table = page.partition("## Queries that are often copied")[2].partition("## Alerts")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 7
    panels = {plain(expr) for _, expr, _ in asked(dashboards())}
    shown = [cell.strip().strip("`") for *_, cell in rows if cell.strip().startswith("`")]
    assert len(shown) == 5  # two of the seven are asked twice
    assert set(shown) <= panels
