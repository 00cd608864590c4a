"""A source that fetches a Prometheus page and reads the engines, GPUs, nodes and deployments on it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from rvtop.contract.replicas import Replicas
from rvtop.net.light_httpx import httpx
from rvtop.net.transport import Transport, TransportError
from rvtop.telemetry.adapters import INFO_NAMES, Infos, InfoSlot, info_slot
from rvtop.telemetry.bounds import MOST, MOST_VALUES
from rvtop.telemetry.exposition import NotPrometheus, SeriesReader
from rvtop.telemetry.gpu import DCGM_NAMES, GpuKey, GpuParts, GpuSlot, dcgm_slot
from rvtop.telemetry.metrics import NAMES, RAY_NAMES
from rvtop.telemetry.ray_series import RayKey, RayParts, RaySlot, ray_slot
from rvtop.telemetry.replicas import REPLICA_NAMES, ReplicaParts, ReplicaSlot, replica_slot
from rvtop.telemetry.sample import DeploymentSample, EngineSample, GpuSample, NodeSample, Sample
from rvtop.telemetry.vllm import EngineKey, EngineParts, EngineSlot, engine_slot
from rvtop.text import NAME_LIMIT, printable

_Slot = EngineSlot | InfoSlot | GpuSlot | RaySlot | ReplicaSlot
_MAX_PAGE = 16 * 1024 * 1024
_ACCEPT = "text/plain;version=0.0.4;q=1,*/*;q=0.1"


@dataclass(frozen=True, slots=True)
class Page:
    """What a page tells, sorted."""

    engines: tuple[EngineSample, ...] = ()
    gpus: tuple[GpuSample, ...] = ()
    nodes: tuple[NodeSample, ...] = ()
    deployments: tuple[DeploymentSample, ...] = ()
    note: str = ""  # what was left out
    replicas: tuple[Replicas, ...] = ()

    def sample(self, source: str) -> Sample:
        """The page as an answer that came now."""
        return Sample(
            time.perf_counter_ns(),
            source,
            self.engines,
            self.gpus,
            nodes=self.nodes,
            deployments=self.deployments,
            note=self.note,
            replicas=self.replicas,
        )


class PageReader:
    """Reads pages of one source; remembers its series, so that the second page is read much faster."""

    def __init__(self) -> None:
        wanted = (*NAMES, *INFO_NAMES, *DCGM_NAMES, *RAY_NAMES, *REPLICA_NAMES)
        self._series: SeriesReader[_Slot] = SeriesReader(wanted, self._slot)
        self._values: dict[str, set[str]] = {}  # of labels that split figures

    def _slot(self, name: str, labels: Mapping[str, str]) -> _Slot | None:
        if name in INFO_NAMES:  # before its labels, which hold many names, are cut to the length of one
            return info_slot({key: printable(value) for key, value in labels.items()})
        labels = {key: printable(value, NAME_LIMIT) for key, value in labels.items()}
        if name in RAY_NAMES:
            return ray_slot(name, labels)
        if name in REPLICA_NAMES:
            return replica_slot(name, labels)
        if name not in NAMES:
            return dcgm_slot(name, labels)
        slot = engine_slot(name, labels)
        if slot is None or not slot.value:
            return slot
        # Counters are kept for the whole session: new values with each page must not fill the memory.
        values = self._values.setdefault(slot.name.figure.key, set())
        if slot.value not in values and len(values) >= MOST_VALUES:
            return None
        values.add(slot.value)
        return slot

    def read(self, text: str, default_node: str = "") -> Page:
        """What is on a page. Raises NotPrometheus when it is none."""
        page = Page()
        for made in self.read_in_parts(text, default_node):
            page = made or page
        return page

    def read_in_parts(self, text: str, default_node: str = "") -> Iterator[Page | None]:
        """``read`` with rests (None) every few milliseconds; the page comes last."""
        engines: dict[EngineKey, EngineParts] = {}
        gpus: dict[GpuKey, GpuParts] = {}
        ray: dict[RayKey, RayParts] = {}
        replicas: dict[str, ReplicaParts] = {}
        infos = Infos()
        left_out: dict[str, None] = {}
        for pairs in self._series.read_in_parts(text):
            for slot, value in pairs:
                if isinstance(slot, EngineSlot):
                    engine = engines.get(slot.key) or _new(engines, slot.key, EngineParts)
                    if engine is not None:
                        engine.add(slot, value)
                    else:
                        left_out["engines"] = None
                elif isinstance(slot, InfoSlot):
                    infos.add(slot, value)
                elif isinstance(slot, GpuSlot):
                    gpu = gpus.get(slot.key) or _new(gpus, slot.key, GpuParts)
                    if gpu is not None:
                        gpu.add(slot, value)
                    else:
                        left_out["GPUs"] = None
                elif isinstance(slot, ReplicaSlot):
                    of_model = replicas.get(slot.key) or _new(replicas, slot.key, ReplicaParts)
                    if of_model is not None:
                        of_model.add(slot, value)
                else:
                    part = ray.get(slot.key) or _new(ray, slot.key, RayParts)
                    if part is not None:
                        part.add(slot, value)
                    else:
                        left_out["nodes and deployments"] = None
            yield None
        ray_keys = sorted(ray)
        yield Page(
            tuple(
                engines[key].sample(key, infos.gauges(key.engine, alone=len(engines) == 1))
                for key in sorted(engines, key=_engine_order)
            ),
            (
                *(gpus[key].sample(key, default_node) for key in sorted(gpus)),
                *(ray[key].gpu(key, default_node) for key in ray_keys if key.of == "gpu"),
            ),
            tuple(ray[key].node(key, default_node) for key in ray_keys if key.of == "node"),
            tuple(ray[key].deployment(key) for key in ray_keys if key.of == "deployment"),
            f"more than {MOST} {' and '.join(left_out)}; the rest is left out" if left_out else "",
            tuple(replicas[model].replicas(model) for model in sorted(replicas)),
        )


_Key = TypeVar("_Key")
_Parts = TypeVar("_Parts")


def _new(held: dict[_Key, _Parts], key: _Key, make: Callable[[], _Parts]) -> _Parts | None:
    """What collects for a ``key`` that is new on a page; None when there are too many."""
    if len(held) >= MOST:
        return None
    made = held[key] = make()
    return made


def _engine_order(key: EngineKey) -> tuple[str, int, str]:
    """By model, then engine; "10" after "9"."""
    number = int(key.engine) if key.engine.isdecimal() else -1
    return (key.model or "", number, key.engine)


def parse(text: str) -> tuple[EngineSample, ...]:
    """The engines of a page, grouped by its ``engine`` and ``model_name`` labels. Pure.

    Raises NotPrometheus when the text is no Prometheus page.
    """
    return PageReader().read(text).engines


_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL: who may see what is meant for it."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


class _ByScheme(httpx.AsyncBaseTransport):
    """Plain connections, and TLS once it is asked for: reading the system's certificates takes 0.3 s, which
    a page without TLS never needs, unless it is redirected to one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._made: dict[bool, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        secure = request.url.scheme == "https"
        if secure not in self._made:
            self._made[secure] = self._make(secure)
        return await self._made[secure].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._made.values():
            await transport.aclose()

    def _make(self, secure: bool) -> httpx.AsyncHTTPTransport:
        own = self._transport
        tls: ssl.SSLContext | bool = secure
        if secure and (own.ca_file or own.cert_file or own.insecure):
            tls = own.ssl_context()
        return httpx.AsyncHTTPTransport(verify=tls, uds=own.unix_socket)


class PageFetcher:
    """Fetches one metrics page over a connection that it keeps.

    ``headers`` may be secret (an API key): only give them for the target's own origin; they follow no
    redirect to another. ``transport`` tells of TLS and of a unix socket (its headers are not looked at).
    ``timeout_s`` bounds each wait (connect, read).
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
        *,
        transport: Transport | None = None,
    ) -> None:
        self.url = url
        self._headers = {"Accept": _ACCEPT, **(headers or {})}
        self._private = tuple(headers or ())
        self._transport = transport or Transport()
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None
        self._reader = PageReader()

    async def page(self) -> Page | str:
        """What is on the page, or in one short line why it could not be had."""
        try:
            text = await self.text()
            for page in self._reader.read_in_parts(text, printable(urlsplit(self.url).hostname or "")):
                if page is not None:
                    return page
                await asyncio.sleep(0)  # a page of megabytes takes seconds: the end must not wait for them
            raise AssertionError("unreachable")
        except (httpx.HTTPError, httpx.InvalidURL, NotPrometheus, TransportError) as problem:
            return short_error(problem, self._timeout_s)

    async def close(self) -> None:
        """Closes the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def text(self) -> str:
        """The body. Raises httpx.HTTPError, httpx.InvalidURL, NotPrometheus."""
        if self._client is None:  # made here: a client belongs to the loop that polls
            self._client = self._make_client()
        async with self._client.stream("GET", self.url) as answer:
            answer.raise_for_status()
            page = bytearray()
            async for chunk in answer.aiter_bytes():
                page += chunk
                if len(page) > _MAX_PAGE:
                    raise NotPrometheus(f"larger than {_MAX_PAGE >> 20} MiB")
        return page.decode("utf-8", errors="replace")

    def _make_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=[
                (name.encode("ascii"), value.encode("latin-1")) for name, value in self._headers.items()
            ],
            timeout=self._timeout_s,
            transport=_ByScheme(self._transport),
            follow_redirects=True,  # some servers answer /metrics with 307 to /metrics/
            max_redirects=2,
            trust_env=False,  # a proxy for the internet is none for a cluster's own pages
            event_hooks={"request": [self._keep_private]},
        )

    async def _keep_private(self, request: httpx.Request) -> None:
        """Before each request, those of redirects too: of the headers httpx takes off only Authorization."""
        if origin(str(request.url)) != origin(self.url):
            for name in self._private:
                request.headers.pop(name, None)


class PrometheusSource:
    """A metrics page, polled; the poller bounds the whole. Arguments as of PageFetcher."""

    def __init__(
        self,
        url: str,
        name: str = "metrics",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
        *,
        transport: Transport | None = None,
    ) -> None:
        self.name = name
        self._fetcher = PageFetcher(url, headers, timeout_s, transport=transport)

    @property
    def url(self) -> str:
        return self._fetcher.url

    @url.setter
    def url(self, url: str) -> None:
        self._fetcher.url = url

    async def poll(self) -> Sample:
        """Fetches and reads the page; see ``TelemetrySource.poll``."""
        page = await self._fetcher.page()
        if isinstance(page, str):
            return Sample(time.perf_counter_ns(), self.name, error=page)
        sample = page.sample(self.name)
        if sample.empty:
            error = "a metrics page, but without engines or GPUs that rvtop knows"
            return Sample(sample.t_ns, self.name, error=error)
        return sample

    async def close(self) -> None:
        """Closes the connection."""
        await self._fetcher.close()


def short_error(problem: Exception, timeout_s: float) -> str:
    """Why a page could not be had, in one short line."""
    if isinstance(problem, httpx.HTTPStatusError):
        code = problem.response.status_code
        return f"HTTP {code} (needs an API key)" if code in (401, 403) else f"HTTP {code}"
    if isinstance(problem, httpx.TimeoutException):
        return f"no answer within {timeout_s:g} s"
    if isinstance(problem, httpx.ConnectError):
        return _connect_error(problem)
    text = " ".join(str(problem).split())
    if isinstance(problem, NotPrometheus):
        return text[:120]
    return f"{type(problem).__name__}: {text}"[:120].removesuffix(": ")


def _connect_error(problem: httpx.ConnectError) -> str:
    for cause in _causes(problem):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, socket.gaierror):
            return "no such host"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}"[:120]
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or cause}"[:120]
    return " ".join(str(problem).split())[:120] or "can't connect"


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    """The exception and what is behind it; a name with several addresses fails with a group."""
    while problem is not None:
        yield problem
        if isinstance(problem, BaseExceptionGroup):
            for inner in problem.exceptions:
                yield from _causes(inner)
        problem = problem.__cause__ or problem.__context__
