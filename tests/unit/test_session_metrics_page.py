"""What a scrape of the client's own figures tells: the same as the picture, and of the whole run."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rvtop.cli.options import SessionOptions
from rvtop.contract.command import SetRate, Stop
from rvtop.contract.snapshot import Load, Snapshot, Target, Tokens
from rvtop.errors import UserError
from rvtop.session.live import LiveState
from rvtop.session.metrics_page import Measured, MetricsPage, place
from rvtop.session.request import SessionRequest
from rvtop.session.session import Session
from rvtop.stats.histogram import Histogram
from tests.mock.fast import any_mock

SECOND = 1_000_000_000


def measured(load: Load, **ttft_s: float) -> Measured:
    target = Target("http://127.0.0.1:1", "rvc", ("m",))
    picture = Snapshot(1, 1.0, 1.0, "running", "sp\x1b[2Jike", target, load=load, tokens=Tokens(total=640))
    ttft = Histogram.of(np.array([int(s * SECOND) for s in ttft_s.values()], np.int64))
    return Measured(picture, {"ttft": ttft.distribution()})


async def scraped(url: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels."""
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    assert "\x1b" not in page
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def one(samples: Mapping[tuple[tuple[str, str], ...], float]) -> float:
    (value,) = samples.values()
    return value


async def test_a_scrape_is_the_picture_of_its_moment() -> None:
    load = Load(target_rps=5.0, in_flight=3, sent=9, ok=4, errors=(("http_500", 2),), dropped=1, due=10)
    now = measured(load, a=0.03, b=0.3, c=3.0)
    page = MetricsPage(("127.0.0.1", 0), lambda: now)
    try:
        found = await scraped(page.url)
        ends = {dict(labels)["end"]: value for labels, value in found["rvtop_client_requests_total"].items()}
        assert ends == {"ok": 4, "http_500": 2}
        assert one(found["rvtop_client_requests_sent_total"]) == 9
        assert one(found["rvtop_client_requests_due_total"]) == 10
        assert one(found["rvtop_client_requests_dropped_total"]) == 1
        assert one(found["rvtop_client_in_flight"]) == 3
        assert one(found["rvtop_client_target_rps"]) == 5
        assert one(found["rvtop_client_output_tokens_total"]) == 640
        assert one(found["rvtop_client_limited"]) == 0
        assert "rvtop_client_goodput_rps" not in found  # a missing figure is none, never 0
        (labels,) = found["rvtop_client_info"]
        assert dict(labels)["topology"] == "rvc"
        buckets = {dict(labels)["le"]: n for labels, n in found["rvtop_client_ttft_seconds_bucket"].items()}
        assert (buckets["0.02"], buckets["0.1"], buckets["1.0"], buckets["+Inf"]) == (0, 1, 2, 3)
        assert one(found["rvtop_client_ttft_seconds_count"]) == 3
        assert one(found["rvtop_client_ttft_seconds_sum"]) == pytest.approx(3.33)
    finally:
        await page.close()


async def test_a_port_that_is_taken_is_said_and_a_closed_page_is_gone() -> None:
    page = MetricsPage(("127.0.0.1", 0), lambda: measured(Load()))
    port = int(page.url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(UserError, match=f"--metrics-port: port {port} of 127.0.0.1 is in use; give another"):
        MetricsPage(("127.0.0.1", port), lambda: measured(Load()))
    await page.close()
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("text", ["", "x", "1:2:3", "127.0.0.1", "a@b:1", "127.0.0.1:99999", "-1"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UserError, match=r"--metrics-port .*: must look like 9400"):
        SessionOptions(metrics_port=text).check()


def test_places() -> None:
    assert place("9400") == ("127.0.0.1", 9400)
    assert place("0.0.0.0:9400") == ("0.0.0.0", 9400)
    assert place("[::1]:9400") == ("::1", 9400)


def test_latencies_are_those_of_all_phases() -> None:
    live = LiveState(0)
    live.phase_ttft.add(np.array([SECOND], np.int64))
    live.begin_phase()
    live.phase_ttft.add(np.array([2 * SECOND], np.int64))
    live.begin_phase()
    found = live.latencies["ttft"].distribution()
    assert (found.count, found.sum_ns) == (2, 3 * SECOND)
    assert live.phase_ttft.distribution().count == 0


async def test_a_session_counts_on_it_what_its_summary_counts(tmp_path: Path) -> None:
    with any_mock() as mock:
        at = ("127.0.0.1", 0)
        request = SessionRequest(None, tmp_path / "run", url=mock.url, live=True, metrics_port=at)
        session = Session(request)
        running = asyncio.create_task(session.run())
        async with asyncio.timeout(60):
            while session.snapshot().state != "watching":
                await asyncio.sleep(0.02)
            session.command(SetRate(20.0))
            while session.snapshot().load.ok < 5:
                await asyncio.sleep(0.02)
            session.command(SetRate(0.0))
            while (
                session.snapshot().load.in_flight or session.snapshot().load.ok < session.snapshot().load.due
            ):
                await asyncio.sleep(0.02)
            page = session._outlets.metrics_page
            assert page is not None
            found = await scraped(page.url)
            told = session.snapshot().load
        assert one(found["rvtop_client_requests_total"]) == told.ok
        assert one(found["rvtop_client_ttft_seconds_count"]) == told.ok
        assert one(found["rvtop_client_e2e_seconds_count"]) == told.ok
        session.command(Stop())
        outcome = await running
    assert outcome.summary is not None
    assert outcome.summary["requests"]["ok"] == told.ok
    assert session._outlets.metrics_page is page
    with pytest.raises(urllib.error.URLError, match="refused"):
        await scraped(page.url)
