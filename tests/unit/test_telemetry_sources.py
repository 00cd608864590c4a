"""Sources over real HTTP, GPUs through a driver that is not there, and which sources a target has."""

from __future__ import annotations

import asyncio
import socket
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pynvml
import pytest
from telemetry_pages import golden

from rvtop.telemetry import gpu
from rvtop.telemetry.discover import is_loopback, metrics_url, sources_for
from rvtop.telemetry.gpu import NvmlSource
from rvtop.telemetry.prometheus import PrometheusSource
from rvtop.telemetry.sample import Sample


class Handler(BaseHTTPRequestHandler):
    """Answers by path, and notes the Authorization header it saw."""

    seen: list[str | None]
    release: threading.Event

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        match self.path:
            case "/metrics":
                self._answer(200, golden("ray_vllm.prom"))
            case "/dcgm":
                self._answer(200, golden("dcgm.prom"))
            case "/moved":
                self._answer(307, "", ("Location", "/metrics"))
            case "/html":
                self._answer(200, "<html>hello</html>")
            case "/other":
                self._answer(200, "up 1\n")
            case "/hangs":
                self.release.wait(60)
            case "/secret":
                self._answer(401, "")
            case _:
                self._answer(404, "")

    def _answer(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen = []
    Handler.release = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        Handler.release.set()
        made.shutdown()
        thread.join()


async def polled(url: str, timeout_s: float = 20.0) -> Sample:
    source = PrometheusSource(url, timeout_s=timeout_s)
    try:
        return await source.poll()
    finally:
        await source.close()


async def test_a_page_over_http(server: str) -> None:
    sample = await polled(f"{server}/metrics")
    assert sample.error is None
    assert sample.source == "metrics"
    assert [engine.node for engine in sample.engines] == ["10.0.0.1", "10.0.0.2"]
    assert (await polled(f"{server}/moved")).engines == sample.engines


async def test_a_dcgm_page_over_http(server: str) -> None:
    sample = await polled(f"{server}/dcgm")
    assert (len(sample.engines), len(sample.gpus)) == (0, 2)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/nowhere", "HTTP 404"),
        ("/secret", "HTTP 401 (needs an API key)"),
        ("/html", "not Prometheus text"),
        ("/other", "a metrics page, but without engines or GPUs that rvtop knows"),
    ],
)
async def test_what_is_no_metrics_page_is_one_short_line(server: str, path: str, error: str) -> None:
    sample = await polled(server + path)
    assert sample.error == error
    assert sample.engines == sample.gpus == ()


async def test_a_server_that_never_answers(server: str) -> None:
    assert (await polled(f"{server}/hangs", timeout_s=0.1)).error == "no answer within 0.1 s"


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert (await polled(f"http://127.0.0.1:{port}/metrics")).error == "connection refused"
        assert (await polled(f"http://localhost:{port}/metrics")).error == "connection refused"


async def test_a_url_that_is_none() -> None:
    for url in ("http://[::1/metrics", "ftp://127.0.0.1/metrics", "metrics"):
        error = (await polled(url)).error
        assert error
        assert len(error) <= 120
        assert "\n" not in error


async def test_plain_http_where_tls_was_asked_for(server: str) -> None:
    error = (await polled(server.replace("http:", "https:") + "/metrics")).error
    assert error
    assert error.startswith("TLS: ")


async def test_a_source_answers_again_after_its_server_was_away(server: str) -> None:
    source = PrometheusSource("http://127.0.0.1:1/metrics")
    assert (await source.poll()).error == "connection refused"
    source.url = f"{server}/metrics"
    assert (await source.poll()).error is None
    await source.close()


# -- which sources -----------------------------------------------------------------------------


def test_the_metrics_page_of_a_target() -> None:
    for target in (
        "http://h:8000",
        "http://h:8000/",
        "http://h:8000/v1",
        "http://h:8000/v1/?x=1",
        "http://u:p@h:8000/v1",
    ):
        assert metrics_url(target) == "http://h:8000/metrics"
    assert metrics_url("https://[::1]:80/v1") == "https://[::1]:80/metrics"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.8.8.8", True),
        ("http://localhost:1/v1", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.1", False),
        ("http://[2001:db8::1]:1", False),
        ("http://localhost.example.org", False),
        ("nonsense", False),
    ],
)
def test_loopback(url: str, local: bool) -> None:
    assert is_loopback(url) is local


def test_sources_of_a_local_and_of_a_distant_target() -> None:
    assert [source.name for source in sources_for("http://127.0.0.1:8000/v1")] == ["metrics", "nvml"]
    (only,) = sources_for("http://gpu7:8000/v1")
    assert isinstance(only, PrometheusSource)
    assert only.url == "http://gpu7:8000/metrics"


def test_metrics_urls_replace_the_default() -> None:
    given = ["http://n1:9400/metrics", "http://n2:9400/metrics", "http://n1:9400/metrics"]
    sources = sources_for("http://gpu7:8000", given)
    assert [source.name for source in sources] == ["n1:9400", "n2:9400"]
    same_host = sources_for("http://gpu7:8000", ["http://n1:1/a", "http://n1:1/b"])
    assert [source.name for source in same_host] == ["n1:1/a", "n1:1/b"]


async def test_the_key_goes_to_the_targets_own_origin_only(server: str) -> None:
    for source in sources_for(f"{server}/v1", [f"{server}/metrics"], api_key="secret")[:1]:
        await source.poll()
        await source.close()
    assert Handler.seen == ["Bearer secret"]
    for source in sources_for("http://127.0.0.1:1/v1", [f"{server}/metrics"], api_key="secret")[:1]:
        await source.poll()
        await source.close()
    assert Handler.seen == ["Bearer secret", None]
    for source in sources_for(server, api_key="")[:1]:
        assert (await source.poll()).error is None
        await source.close()
    assert Handler.seen == ["Bearer secret", None, None]


# -- NVML --------------------------------------------------------------------------------------


async def test_without_a_driver_nvml_is_quietly_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    monkeypatch.setattr(gpu, "_DRIVER", ("/",))  # loaded, with nothing that it could talk to
    source = NvmlSource()
    for _ in range(2):
        sample = await source.poll()
        assert (sample.source, sample.gpus, sample.error) == ("nvml", (), None)
    await source.close()


class FakeNvml:
    """The few calls of pynvml that the source makes: a plain GPU and one that tells little."""

    NVMLError = pynvml.NVMLError
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLError_NoPermission = pynvml.NVMLError_NoPermission
    NVMLError_FunctionNotFound = pynvml.NVMLError_FunctionNotFound
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self) -> None:
        self.open = True
        self.lost = False

    def nvmlDeviceGetCount(self) -> int:
        if self.lost:
            raise pynvml.NVMLError_GpuIsLost
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return b"NVIDIA H200" if handle else "NVIDIA A100"

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> types.SimpleNamespace:
        if handle and version is not None:
            raise pynvml.NVMLError_FunctionNotFound
        return types.SimpleNamespace(used=7 * 2**30, total=80 * 2**30, free=73 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> types.SimpleNamespace:
        if handle:
            raise pynvml.NVMLError_NotSupported
        return types.SimpleNamespace(gpu=42, memory=7)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle:
            raise pynvml.NVMLError_NotSupported
        return 345_678

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if handle:
            raise pynvml.NVMLError_NotSupported
        return 987_654_321

    def nvmlShutdown(self) -> None:
        self.open = False


async def test_gpus_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml()
    monkeypatch.setattr(gpu, "_open_nvml", lambda: fake)
    source = NvmlSource(node="n1")
    plain, shy = (await source.poll()).gpus
    assert (plain.node, plain.index, plain.name) == ("n1", 0, "NVIDIA A100")
    assert (plain.memory_used, plain.memory_total, plain.util) == (7 * 2**30, 80 * 2**30, 0.42)
    assert (plain.watts, plain.joules) == (pytest.approx(345.678), pytest.approx(987_654.321))
    assert (shy.index, shy.name, shy.util) == (1, "NVIDIA H200", None)
    assert (shy.watts, shy.joules) == (None, None)
    assert shy.memory_used == 7 * 2**30  # an old driver knows only the first version of the question
    fake.lost = True
    lost = await source.poll()
    assert (lost.gpus, lost.error) == ((), "NVML: GPU is lost")
    await source.close()
    assert not fake.open


async def test_a_driver_that_hangs_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hangs() -> FakeNvml:
        release.wait(60)
        return FakeNvml()

    monkeypatch.setattr(gpu, "_open_nvml", hangs)
    source = NvmlSource()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(source.poll(), 0.05)
    assert (await source.poll()).error == "the NVIDIA driver does not answer"
    release.set()
    for _ in range(3000):
        sample = await source.poll()
        if sample.error is None:
            break
        await asyncio.sleep(0.02)
    assert len(sample.gpus) == 2
    await source.close()
