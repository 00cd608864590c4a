"""Several runs as one page: the table of differences first, then each run in one colour in all charts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvtop.study.pages import showdown_page, sweep_page
from rvtop.study.turns import run_turns
from tests.conftest import Rvtop
from tests.unit.run_folder import command
from tests.unit.test_results_compare import run
from tests.unit.test_results_html import EVIL, drawn
from tests.unit.test_study_rows import showdown
from tests.unit.test_study_sweep import SLO, nothing, session, sweep
from tests.web.browser import PROGRAM, tab


def test_runs_lie_over_each_other_in_the_same_colours(tmp_path: Path, rvtop_here: Rvtop) -> None:
    a = run(tmp_path / "a", count=1000, topology="rac")
    b = run(tmp_path / "b", 50, count=1000, topology="rvc")
    c = run(tmp_path / "c", 70, count=1000, topology=EVIL)
    code, out, error = rvtop_here("compare", a, b, c, "--html", tmp_path / "page.html")
    assert (code, error) == (0, "")
    assert f"page: {tmp_path / 'page.html'}" in out
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.index("B lower, significant") < page.index("C lower, significant") < page.index('id="charts"')
    assert EVIL not in page
    charts = {chart["title"]: chart for chart in drawn(page)["charts"]}
    assert {"TTFT", "ITL", "E2E", "TTFT p99"} <= set(charts)
    for chart in charts.values():
        assert [line["role"] for line in chart["lines"]] == ["line0", "line1", "line2"]
        assert [line["name"][:2] for line in chart["lines"]] == ["A ", "B ", "C "]
        assert {len(line["values"]) for line in chart["lines"]} == {len(chart["x"])}
    for line in charts["TTFT"]["lines"]:
        assert abs(sum(line["values"]) - 100) < 0.1
    for number, name in enumerate(("A rac", "B rvc")):
        assert f'var(--line{number})"></span><strong>{name}</strong>' in page


def test_a_page_that_can_not_be_written_or_told_apart_is_one_line(tmp_path: Path, rvtop_here: Rvtop) -> None:
    a = run(tmp_path / "a", count=100)
    code, _, error = rvtop_here("compare", a, a, "--html", tmp_path / "no" / "page.html")
    assert code == 2
    assert error.startswith("rvtop: --html ")
    code, _, error = rvtop_here("compare", *[a] * 9, "--html", tmp_path / "page.html")
    assert (code, error) == (2, "rvtop: 9 runs on one page: 8 at most, or colours repeat\n")


def test_a_summary_of_somebody_elses_can_not_break_the_page(tmp_path: Path, rvtop_here: Rvtop) -> None:
    a = run(tmp_path / "a", count=100, commands=[command(1.5, "mark", note=EVIL, by="keyboard")])
    told = json.loads((a / "summary.json").read_text())
    (a / "summary.json").write_text(json.dumps({**told, "phases": None, "duration_s": "x"}))
    assert rvtop_here("compare", a, a, "--html", tmp_path / "page.html")[0] == 0
    assert drawn((tmp_path / "page.html").read_text("utf-8"))["duration_s"] > 0


def test_a_showdown_is_a_page(tmp_path: Path) -> None:
    found = showdown(tmp_path / "out", 1)
    page = showdown_page("made", found["rows"], "rac", ["dtype: x (rac)"], tmp_path / "out")
    for part in (
        "rac (reference)",
        "CENSORED",
        "Phase paper/n=24",
        "differs: dtype: x (rac)",
        "paper: the Ray",
    ):
        assert part in page
    names = [line["name"] for line in drawn(page)["charts"][0]["lines"]]
    assert names == ["baseline", "rac", "rvc-noprefix", "rvc"]


def test_a_sweep_is_a_page_with_its_points(tmp_path: Path) -> None:
    made = sweep(tmp_path / "out")
    run_turns(made, session, nothing)
    page = sweep_page("made", "rvc", made.rows, SLO, tmp_path / "out")
    assert "best under the SLO (TTFT 150 ms at p99): max_num_seqs=64 block_size=32" in page
    points = drawn(page)["charts"][0]
    assert points["points"]
    assert len(points["lines"]) == len(points["x"]) == 4
    for line, row in zip(points["lines"], made.rows, strict=True):
        told = [(x, y) for x, y in zip(points["x"], line["values"], strict=True) if y is not None]
        assert told == [(row["figures"]["ttft_p99_ms"], row["figures"]["tps_each"])]


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
@pytest.mark.xdist_group("browser")
async def test_a_browser_draws_points_and_runs(tmp_path: Path) -> None:
    made = sweep(tmp_path / "out")
    run_turns(made, session, nothing)
    page_of = tmp_path / "page.html"
    page_of.write_text(sweep_page("made", "rvc", made.rows, SLO, tmp_path / "out"), "utf-8")
    async with tab() as page:
        await page.open(page_of.as_uri(), width=360, height=800)
        await page.until("document.querySelectorAll('#charts canvas').length > 3")
        assert await page.value("document.documentElement.scrollWidth") <= 360
        await page.value(
            "document.querySelector('.chart.wide .plot')"
            ".dispatchEvent(new KeyboardEvent('keydown', {key: 'Home', bubbles: true}))"
        )
        read = await page.value("document.querySelector('.chart.wide .unseen').textContent")
        assert "TTFT p99, ms 50" in read
        assert await page.faults() == []
        assert page.log == []
