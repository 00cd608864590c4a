"""A server's size and depth hurt nobody: what is read of it has limits, and what is left out is said."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.record import Record
from rvtop.net import http_get
from rvtop.session.session import Session
from rvtop.target.probe import TargetError, answers, choose_models, probe
from rvtop.telemetry.bounds import MOST
from rvtop.telemetry.poller import Poller
from rvtop.telemetry.prometheus import PageReader, PrometheusSource, parse
from rvtop.telemetry.ray import NotFound, topology_pages
from rvtop.telemetry.sample import EngineSample, GpuSample, Sample
from rvtop.telemetry.state import ServerState
from tests.faults.sessions import ask, request

SECOND = 1_000_000_000
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":%b}]}\n\n'
WHOLE = EVENT % b"null" + EVENT % b'"stop"'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def serving(answer: Callable[[str], bytes], endless: bytes = b"") -> AsyncIterator[str]:
    """Answers each request by its path with whole bytes, then goes on with ``endless`` until cut off."""
    cut = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            writer.write(answer(path))
            while endless:
                writer.write(endless)
                await writer.drain()
        except ConnectionError:
            cut.set()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if endless:
            await asyncio.wait_for(cut.wait(), 240)
    finally:
        server.close()


def body(data: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        len(data),
        data,
    )


async def one(url: str) -> Record:
    """A request to ``url`` under generous limits; it must end by itself."""
    target = Endpoint(Address(url))
    await target.resolve()
    async with asyncio.timeout(240):
        return (await ask(target, (30.0, 3600.0, 3600.0)))[0]


# -- requests


@pytest.mark.parametrize(
    ("begin", "endless", "error"),
    [
        (STREAM + chunk(WHOLE + b"data: [DONE]\n\n"), chunk(b": ping\n\n" * 8192), None),
        (STREAM + chunk(WHOLE) + b"0\r\nx-trailer: ", b"x" * 65536, None),
        (b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", chunk(b"broken " * 8192), "http_500"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 1000000000\r\n\r\n", b"broken " * 8192, "http_500"),
        (b"HTTP/1.1 200 OK\r\nx-header: ", b"x" * 65536, "bad_stream"),
        (STREAM, chunk(b"x" * 65536), "bad_stream"),
    ],
    ids=["comments behind the end", "trailers", "error body", "error of 1 GB", "head", "line"],
)
async def test_an_answer_without_end_is_cut_off(begin: bytes, endless: bytes, error: str | None) -> None:
    async with serving(lambda path: begin, endless) as url:
        record = await one(url)
    assert record.error == error
    if error == "http_500":
        assert record.error_text.startswith("broken broken")
        assert len(record.error_text) <= 300


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (b'{"completion_tokens":' + b"9" * 4000 + b"}", 2),
        (b'{"completion_tokens":1e400}', 2),
        (b'{"completion_tokens":-5}', 2),
        (b'{"completion_tokens":"7"}', 2),
        (b'{"completion_tokens":7}', 7),
    ],
)
async def test_usage_that_can_be_no_count_is_not_counted(usage: bytes, tokens: int) -> None:
    last = b'data: {"choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % usage
    async with serving(lambda path: STREAM + chunk(WHOLE + last) + b"0\r\n\r\n") as url:
        record = await one(url)
    assert record.tokens == tokens


@pytest.mark.parametrize("depth", [500, 100_000])
async def test_a_deeply_nested_error_is_an_error(depth: int) -> None:
    event = b'data: {"error":' + b"[" * depth + b"]" * depth + b"}\n\n"
    async with serving(lambda path: STREAM + chunk(event) + b"0\r\n\r\n") as url:
        record = await one(url)
    assert record.error in ("stream_error", "bad_stream")
    assert len(record.error_text) <= 300


# -- the probe


async def test_a_list_of_models_over_the_limit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: it was called "not OpenAI-compatible"."""
    monkeypatch.setattr(http_get, "BODY_LIMIT", 1 << 20)
    cards = {"data": [{"id": f"m{number}", "owned_by": "x" * 1000} for number in range(1200)]}
    async with serving(lambda path: body(json.dumps(cards).encode())) as url:
        with pytest.raises(TargetError) as refused:
            await probe(url)
        assert await answers(url)  # whatever its length, something is there
    assert "GET /v1/models is over the limit of 1 MiB" in str(refused.value)
    assert "OpenAI" not in str(refused.value)


async def test_a_list_of_two_mebibytes_is_read() -> None:
    cards = {"data": [{"id": f"m{number}", "owned_by": "x" * 1000} for number in range(2000)]}
    async with serving(lambda path: body(json.dumps(cards).encode())) as url:
        info = await probe(url)
    assert len(info.models) == 2000
    with pytest.raises(TargetError) as refused:
        choose_models(info, ())
    assert len(str(refused.value)) <= 4000


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 1_000_000,
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data":[{"id":' + b"[" * 500 + b"]" * 500 + b"}]}",
        b'{"data":[{"id":"' + b"x" * 100_000 + b'"}]}',
        b'{"data":[{"id":"\\ud800"}]}',
        b'{"data":[{"id":' + b"9" * 5000 + b"}]}",
    ],
    ids=["depth", "deep list", "deep id", "long id", "half a character", "long number"],
)
async def test_ids_that_no_request_can_hold_are_no_models(answer: bytes) -> None:
    async with serving(lambda path: body(answer)) as url:
        with pytest.raises(TargetError) as refused:
            await probe(url)
    assert "no list of models" in str(refused.value)


@pytest.mark.parametrize("facts", [b"[" * 1_000_000, b'"x"', b"9" * 5000, b'{"topology":["x"]}'])
async def test_a_topology_that_makes_no_sense_is_none(facts: bytes) -> None:
    models = b'{"data":[{"id":"m"}]}'
    async with serving(lambda path: body(models if path == "/v1/models" else facts)) as url:
        info = await probe(url)
    assert (info.models, info.topology) == (("m",), None)


def test_a_topology_names_so_many_pages_and_no_more() -> None:
    rows = [{"metrics_url": f"http://h{number}/metrics"} for number in range(MOST + 500)]
    assert len(topology_pages(json.dumps({"nodes": rows}))) == MOST
    with pytest.raises(NotFound):
        topology_pages("[" * 1_000_000)


# -- metrics pages


def page(engines: range, value: float | str = 3) -> str:
    return "".join(f'vllm:num_requests_running{{engine="e{number}"}} {value}\n' for number in engines)


def test_a_page_with_too_many_engines_is_capped_and_says_so() -> None:
    """F27: 80 000 of them took half a gigabyte, and the run 26 s to end."""
    reader = PageReader()
    made = reader.read(page(range(20_000)))
    assert len(made.engines) == MOST
    assert made.note == f"more than {MOST} engines; the rest is left out"
    again = reader.read(page(range(20_000)))
    assert [e.engine for e in again.engines] == [e.engine for e in made.engines]  # the same ones each time
    assert reader.read(page(range(MOST))).note == ""


async def test_a_session_says_once_what_a_page_left_out(tmp_path: Path) -> None:
    session = Session(
        request("http://127.0.0.1:9", tmp_path / "run", {"name": "p", "rate": 1, "duration": "1s"})
    )
    for poll in range(3):
        made = PageReader().read(page(range(MOST + 1)))
        session._figures.take(replace(made.sample("metrics"), t_ns=poll * SECOND), session._figures._state)
    (event,) = session.snapshot().events
    assert event.text == f"metrics: more than {MOST} engines; the rest is left out"
    assert event.level == "warn"


def test_engines_that_change_with_each_poll_fill_no_memory() -> None:
    state = ServerState()
    notes = set()
    for poll in range(20):
        engines = tuple(
            EngineSample(f"{poll}-{number}", gauges={"running": 1.0}, counters={"generation_tokens": 5.0})
            for number in range(500)
        )
        gpus = tuple(GpuSample(f"{poll}", number, "GPU") for number in range(500))
        notes.add(state.apply(Sample(poll * SECOND, "metrics", engines, gpus)))
        view = state.view(poll * SECOND)
        assert len(view.engines) <= MOST
        assert len(view.gpus) <= MOST
    assert notes == {"", f"more than {MOST} engines and GPUs; the rest is left out"}
    assert view.running is not None
    assert 500.0 <= view.running <= MOST


def test_series_that_change_with_each_poll_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvtop.telemetry.exposition._MAX_SERIES", 1000)
    reader = PageReader()
    for poll in range(5):
        assert len(reader.read(page(range(poll * 900, poll * 900 + 900))).engines) == 900
        assert len(reader._series._known) <= 1000


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-3", "1e300", "-1e300"])
def test_values_that_can_be_no_figures_are_left_out(value: str) -> None:
    text = (
        f'vllm:num_requests_running{{engine="0"}} {value}\n'
        f'vllm:generation_tokens_total{{engine="0"}} {value}\n'
        f'vllm:time_to_first_token_seconds_bucket{{engine="0",le="1"}} {value}\n'
        f'vllm:time_to_first_token_seconds_bucket{{engine="0",le="NaN"}} 1\nvllm:num_requests_waiting 2\n'
    )
    (engine,) = parse(text)
    assert engine.gauges == {"waiting": 2}
    assert engine.counters == {}
    assert engine.hists == {}


def test_a_gpu_of_an_impossible_number_is_none() -> None:
    text = f'DCGM_FI_DEV_FB_USED{{gpu="{"9" * 100}"}} 1\nDCGM_FI_DEV_FB_USED{{gpu="7"}} 1\n'
    assert [gpu.index for gpu in PageReader().read(text).gpus] == [7]


def test_a_memory_of_no_bytes_is_not_known() -> None:
    """The screen divided by it."""
    state = ServerState()
    zeros = 'DCGM_FI_DEV_FB_USED{gpu="0"} 0\nDCGM_FI_DEV_FB_FREE{gpu="0"} 0\nray_node_mem_total{ip="n"} 0\n'
    state.apply(PageReader().read(zeros).sample("metrics"))
    view = state.view(time.perf_counter_ns())
    assert [gpu.memory_total for gpu in view.gpus] == [None]
    assert [node.memory_total for node in view.nodes] == [None]
    assert view.gpu_memory is None


def test_a_histogram_of_too_many_buckets_is_cut() -> None:
    lines = [f'vllm:time_to_first_token_seconds_bucket{{le="{number}"}} 1\n' for number in range(5000)]
    (engine,) = parse("".join(lines))
    assert len(engine.hists["ttft"].le) < 600


async def test_a_page_over_the_limit_is_not_read_to_its_end() -> None:
    async with serving(lambda path: b"HTTP/1.1 200 OK\r\n\r\n", page(range(1000)).encode()) as url:
        source = PrometheusSource(f"{url}/metrics", timeout_s=30.0)
        try:
            sample = await source.poll()
        finally:
            await source.close()
    assert sample.error == "larger than 16 MiB"


async def test_a_poll_in_the_middle_of_a_large_page_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gives way between parts of the page, so it can be cancelled there."""
    monkeypatch.setattr("rvtop.telemetry.exposition._PART_LINES", 1)
    parts = threading.Event()
    read = PageReader.read_in_parts

    def slow(self: PageReader, text: str, node: str = "") -> object:
        for number, part in enumerate(read(self, text, node)):
            if number > 2:
                parts.set()
            yield part

    monkeypatch.setattr(PageReader, "read_in_parts", slow)
    samples: list[Sample] = []
    async with serving(lambda path: body(page(range(200_000)).encode())) as url:
        poller = Poller([PrometheusSource(f"{url}/metrics")], samples.append, timeout_s=600.0)
        poller.start()
        assert await asyncio.to_thread(parts.wait, 240)
        assert await asyncio.to_thread(poller.stop, 60.0)
    assert samples == []
