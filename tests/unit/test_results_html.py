"""A run as an HTML page: what it holds, what it draws, and that a server's text is only ever text there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from typer.testing import CliRunner

from rvtop.cli.app import app
from rvtop.results import summary
from rvtop.results.html.page import run_page
from rvtop.stats.histogram import bucket_of
from tests.unit.run_folder import command, make, phase, request, second
from tests.web.browser import PROGRAM, tab

EVIL = "</script><img src=x onerror=alert(1)>\x1b[2J\u202e"
GAP = bucket_of(10_000_000).item()


def gpus(count: int, used: float) -> list[dict[str, Any]]:
    one = {
        "node": "n1",
        "name": "H200",
        "memory_used": used * (1 << 30),
        "memory_total": 141 << 30,
        "util": 0.5,
    }
    return [{**one, "index": index} for index in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two phases, ten seconds, a hundred requests of which one fails with a text that is none."""
    rows = [request(0, "warm", 100, lag=0, first=900, last=950)]
    rows += [
        request(n, "hold", 2000 + 80 * n, lag=1, first=50 + n, last=90 + n, itl_hist=[[GAP, 4]])
        for n in range(1, 99)
    ]
    rows.append(request(99, "hold", 9950, lag=0, error="http_500", error_text=EVIL))
    timeline = [
        second(
            float(t), target_rps=12.5, in_flight=t, kv_usage=t / 20, tokens_per_s=60.0,
            engines=[{"name": f"e{n}", "kv_usage": t / 20, "figures": {}} for n in range(2)],
            gpus=gpus(9, 10.0 + t), totals={"preemptions": max(0, t - 5)},
        )
        for t in range(1, 11)
    ]  # fmt: skip
    commands = [phase("warm", 0.0, 1.0, warmup=True), phase("hold", 2.0, 8.0), command(10.5, "stop")]
    made = make(tmp_path / "run", rows, commands, timeline)
    (made / "events.jsonl").write_text(
        json.dumps({"t_s": 4.0, "kind": "mark", "level": "info", "text": EVIL})
        + "\n"
        + json.dumps({"t_s": 2.0, "kind": "phase", "level": "info", "text": "phase hold begins"})
        + "\n",
        "utf-8",
    )
    (made / "scenario.yaml").write_text(f"name: made # {EVIL}\n", "utf-8")
    return made


def drawn(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


def test_the_page_has_the_figures_of_the_summary(folder: Path) -> None:
    page, told = run_page(folder), summary.summarise(folder)
    assert f"{told['ttft_ms']['p50']:.3g} ms" in page
    assert "98 of 99" in page
    assert '<th scope="row">warm (warm-up)</th>' in page
    slowest = page.index("The slowest requests")
    assert page.index('<td class="n">148</td>', slowest) < page.index('<td class="n">147</td>', slowest)


def test_nothing_that_a_server_or_a_file_says_is_more_than_text(folder: Path) -> None:
    page = run_page(folder)
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert {tag for tag, _ in Elements(page).all} & {"img", "link", "iframe"} == set()
    assert "&lt;/script&gt;&lt;img src=x" in page  # the error's text and the scenario
    assert [event["text"] for event in drawn(page)["events"]] == [
        "</script><img src=x onerror=alert(1)>\\x1b[2J\\u202e"
    ]


def test_the_page_needs_nothing_else_and_runs_no_other_script(folder: Path) -> None:
    page = run_page(folder)
    elements = Elements(page).all
    assert not [attrs for _, attrs in elements if {"src", "href"} & attrs.keys()]
    policy = next(attrs["content"] for tag, attrs in elements if "http-equiv" in attrs) or ""
    assert policy.startswith("default-src 'none'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert len(scripts) == 2
    assert hashes == set(re.findall(r"'sha256-([^']+)'", policy))


def test_what_is_drawn_is_what_was_measured(folder: Path) -> None:
    charts = {(chart["title"], chart["log"]): chart for chart in drawn(run_page(folder))["charts"]}
    ttft = charts["TTFT", True]
    shares = ttft["lines"][0]["values"]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert ttft["x"][0] < 51
    assert ttft["x"][-1] > 148
    assert ttft["lines"][1]["values"] == [150.0]  # the SLO
    over_time = charts["TTFT", False]
    at = over_time["x"].index(2.5)
    in_that_second = [50 + n for n in range(1, 99) if 2000 <= 2000 + 80 * n < 3000]
    assert over_time["lines"][0]["values"][at] == median(in_that_second)
    assert [line["name"] for line in charts["KV cache", False]["lines"]] == ["e0", "e1"]
    assert charts["KV cache", False]["lines"][0]["values"] == [5.0 * t for t in range(1, 11)]
    assert [line["name"] for line in charts["GPU memory", False]["lines"]] == [
        "least of 9",
        "mean of 9",
        "most of 9",
    ]
    assert charts["GPU memory", False]["lines"][2]["values"][0] == 11.0
    assert charts["Preemptions", False]["lines"][0]["values"] == [None, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert ("Nodes' CPU", False) not in charts  # nothing was measured


def test_a_run_without_a_good_request_has_a_page(tmp_path: Path) -> None:
    rows = [request(0, "hold", 100, lag=0, error="refused", error_text="nobody there")]
    commands = [phase("hold", 0.0, 1.0), command(1.5, "stop")]
    page = run_page(make(tmp_path / "run", rows, commands, []))
    assert "EVERY REQUEST FAILED" in page
    assert "nobody there" in page
    assert drawn(page)["charts"] == []
    assert 'TTFT p50</p><p class="big">-- ms' in page


def test_an_slo_that_changed_is_no_line(folder: Path) -> None:
    with (folder / "commands.jsonl").open("a") as file:
        file.write(json.dumps(command(4.0, "slo", ttft_ms=90.0, by="keyboard")) + "\n")
    page = run_page(folder)
    assert "within the SLO, which changed meanwhile" in page
    assert {line["name"] for chart in drawn(page)["charts"] for line in chart["lines"]}.isdisjoint({"SLO"})


def test_ten_minutes_stay_small(tmp_path: Path) -> None:
    rows = [request(n, "hold", 20 * n, lag=0, first=50, last=90) for n in range(30_000)]
    timeline = [second(float(t), in_flight=3, engines=[], gpus=gpus(16, 10.0)) for t in range(600)]
    made = make(tmp_path / "run", rows, [phase("hold", 0.0, 600.0), command(601.0, "stop")], timeline)
    assert len(run_page(made).encode()) < 1_500_000


def test_report_writes_the_page_or_says_why_not(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(folder), "--html", str(out)])
    assert result.exit_code == 0, result.output
    assert f"report: {out}" in result.output
    assert out.read_text("utf-8") == run_page(folder)
    result = CliRunner().invoke(app, ["report", str(folder), "--html", str(out), "--json"])
    assert json.loads(result.stdout) == json.loads((folder / "summary.json").read_text())
    missing = tmp_path / "nowhere" / "report.html"
    result = CliRunner().invoke(app, ["report", str(folder), "--html", str(missing)])
    assert result.exception is not None
    assert "can't be written: No such file or directory; give another file" in str(result.exception)


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
@pytest.mark.xdist_group("browser")
async def test_a_browser_draws_it_and_the_keyboard_reads_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text(run_page(folder), "utf-8")
    async with tab() as page:
        await page.open(out.as_uri(), width=360, height=800)
        await page.until("document.querySelectorAll('#charts canvas').length > 8")
        assert await page.value("document.documentElement.scrollWidth") <= 360
        assert await page.value("document.querySelectorAll('img').length") == 0
        await page.value(
            "const plot = document.querySelectorAll('.chart:not(.half) .plot')[0];"
            "for (const key of ['Home', 'ArrowRight'])"
            " plot.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))"
        )
        read = await page.value("document.querySelectorAll('.chart:not(.half) .unseen')[0].textContent")
        assert "0:02" in read
        assert "asked12.5" in read.replace(" ", "")
        summary_of = "document.querySelectorAll('.chart:not(.half) details')[0]"
        await page.value(f"{summary_of}.open = true")
        await page.until(f"{summary_of}.querySelectorAll('tbody tr').length === 10")
        assert await page.faults() == []
        await page.call("Emulation.setEmulatedMedia", media="print")
        paper = {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        await page.call("Emulation.setDeviceMetricsOverride", **paper)
        await page.until("document.documentElement.scrollWidth <= 720")
        assert page.log == []


def test_a_phase_on_another_server_is_named_in_words_with_its_address(tmp_path: Path) -> None:
    rows = [request(0, "live", 100, lag=0, first=50, last=90)]
    rows += [request(1, "live#target-2", 3000, lag=0, first=50, last=90)]
    commands = [
        phase("live", 0.0, 2.0),
        command(2.0, "target", target=1, url="http://n2:8001"),
        phase("live#target-2", 2.0, 2.0),
        command(4.5, "stop"),
    ]
    made = make(tmp_path / "run", rows, commands, [second(float(t)) for t in range(1, 5)])
    page = run_page(made)
    assert '<th scope="row">live</th>' in page
    assert '<th scope="row">live, 2nd server at http://n2:8001</th>' in page
    assert [one["name"] for one in drawn(page)["phases"]] == ["live", "live, 2nd server"]
    assert [one["name"] for one in summary.summarise(made)["phases"]] == ["live", "live#target-2"]  # as ever


def test_where_the_ttft_went_is_drawn_to_scale_and_says_who_tells_it(tmp_path: Path) -> None:
    def page(server: dict[str, Any] | None, timeline: list[dict[str, Any]]) -> str:
        rows = [
            request(n, "hold", 80 * n, lag=1, first=100, last=140, itl_hist=[[GAP, 4]], server=server)
            for n in range(1, 99)
        ]
        return run_page(make(tmp_path / "run", rows, [phase("hold", 0.0, 9.0)], timeline))

    def widths(page: str, of: str) -> dict[str, float]:
        found = re.findall(
            rf'class="(\w+)" x="[\d.]+" y="\d+" width="([\d.]+)" height="16"><title>{of}:', page
        )
        return {kind: float(width) for kind, width in found}

    told = page({"queue_ms": 49.0, "prefill_ms": 40.0, "router_ms": 5.0, EVIL: EVIL}, [])
    assert "Of 98 of 98 requests rvtop&#x27;s backend told it (usage.rvtop)" in told
    bars = widths(told, "p99")
    assert list(bars) == ["lag", "network", "router", "queue", "prefill"]
    assert sum(bars.values()) == pytest.approx(940.0, abs=0.1)
    assert bars["queue"] == pytest.approx(0.49 * 940, abs=0.1)
    grown = {"queue_time.sum": 4.9, "queue_time.count": 98.0, "prefill_time.sum": 3.92}
    grown["prefill_time.count"] = 98.0
    guess = page(None, [second(0.0, totals=dict.fromkeys(grown, 0.0)), second(9.0, totals=grown)])
    assert "ESTIMATE: the server tells only means" in guess
    assert list(widths(guess, "mean")) == ["lag", "network", "queue", "prefill"]
    assert list(widths(guess, "p99")) == ["lag", "network"]
    assert "tells no parts: all that is not lag stands as network" in page(None, [])
