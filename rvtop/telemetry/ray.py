"""A Ray cluster: the metrics pages of all its nodes, found and read every few seconds, as one source.

Which pages there are is told by the control endpoint of a topology of ours (``nodes`` of
``/rvtop/topology``), or for a server that is not ours by Ray's own service discovery file, which the
dashboard of a cluster on this machine keeps while it runs (``prom_metrics_service_discovery.json``; format:
Prometheus' file_sd). Nodes come and go; one that does not answer holds up no other.

A page costs the node that writes it some 50 ms of CPU (measured: Ray 2.60, 290 KB), so it is not asked for
every second, all the less since Ray itself brings figures up to date every 2.5 to 10 s.
"""

from __future__ import annotations

import asyncio
import json
import platform
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from rvtop.net.light_httpx import httpx
from rvtop.net.transport import Transport, TransportError
from rvtop.telemetry.bounds import MOST
from rvtop.telemetry.prometheus import Page, PageFetcher, short_error
from rvtop.telemetry.ray_local import DISCOVERY_FILE, discovery_file
from rvtop.telemetry.ray_series import Held, together
from rvtop.telemetry.sample import DeploymentSample, GpuSample, NodeSample, Sample
from rvtop.text import NAME_LIMIT, printable, told

_PERIOD_S = 5.0  # Ray writes its file as often; in between an answer is told again
_TIMEOUT_S = 2.0
_URL_LIMIT = 2000

#: The pages of a cluster: URL -> the node's name ("" where the page itself must tell).
Pages = Mapping[str, str]


class NotFound(Exception):
    """Why the pages could not be found, in one short line."""


class _HeldPage:
    """The last figures of a node's page."""

    def __init__(self) -> None:
        self._nodes: Held[NodeSample] = Held()
        self._gpus: Held[GpuSample] = Held()
        self._deployments: Held[DeploymentSample] = Held()

    def filled(self, page: Page, now_s: float) -> Page:
        """The page, with the figures that it left out this time."""
        return replace(
            page,
            nodes=self._nodes.filled(page.nodes, now_s),
            gpus=self._gpus.filled(page.gpus, now_s),
            deployments=self._deployments.filled(page.deployments, now_s),
        )


class RaySource:
    """All pages of a cluster. ``engines``: also tell of the engines on them, second hand."""

    def __init__(
        self, find: Callable[[], Awaitable[Pages]], name: str = "ray", *, engines: bool = False
    ) -> None:
        self.name = name
        self._find = find
        self._engines = engines
        self._pages: Pages = {}
        self._fetchers: dict[str, PageFetcher] = {}
        self._held: dict[str, _HeldPage] = {}
        self._asked_at = -_PERIOD_S
        self._problem: str | None = None
        self._last = Sample(0, name)

    async def poll(self) -> Sample:
        """All pages at once; see ``TelemetrySource.poll``. Fails only when no page could be had."""
        if time.monotonic() - self._asked_at >= _PERIOD_S:
            self._asked_at = time.monotonic()
            await self._find_pages()
            self._last = await self._ask()
        return replace(self._last, t_ns=time.perf_counter_ns())

    async def _ask(self) -> Sample:
        answers = await asyncio.gather(*(self._page(url) for url in self._pages))
        pages = [answer for answer in answers if isinstance(answer, Page)]
        if not pages:
            error = next((answer for answer in answers if isinstance(answer, str)), self._problem)
            return Sample(time.perf_counter_ns(), self.name, error=error)
        return Sample(
            time.perf_counter_ns(),
            self.name,
            engines=tuple(e for page in pages for e in page.engines) if self._engines else (),
            gpus=tuple(gpu for page in pages for gpu in page.gpus),
            nodes=tuple(node for page in pages for node in page.nodes),
            deployments=together(d for page in pages for d in page.deployments),
            second_hand=True,
            note=next((page.note for page in pages if page.note), ""),
        )

    async def close(self) -> None:
        """Closes all connections."""
        fetchers, self._fetchers = self._fetchers, {}
        await asyncio.gather(*(fetcher.close() for fetcher in fetchers.values()))

    async def _find_pages(self) -> None:
        try:
            pages = await self._find()
        except NotFound as problem:  # what was found before may still be there
            self._problem = str(problem)
            return
        self._pages, self._problem = pages, None
        for url in [url for url in self._fetchers if url not in pages]:
            await self._fetchers.pop(url).close()
            self._held.pop(url, None)

    async def _page(self, url: str) -> Page | str:
        fetcher = self._fetchers.get(url)
        if fetcher is None:
            fetcher = self._fetchers[url] = PageFetcher(url, timeout_s=_TIMEOUT_S)
        page = await fetcher.page()
        if isinstance(page, str):
            return page
        page = self._held.setdefault(url, _HeldPage()).filled(page, time.monotonic())
        name = self._pages.get(url)
        if not name:
            return page
        # A page is of one node; on one machine several nodes may say the same address.
        return replace(
            page,
            nodes=tuple(replace(node, node=name) for node in page.nodes),
            gpus=tuple(replace(gpu, node=name) for gpu in page.gpus),
        )


def from_topology(
    target_url: str, headers: Mapping[str, str], transport: Transport | None = None
) -> Callable[[], Awaitable[Pages]]:
    """Finds the pages by the control endpoint of one of our topologies, over ``transport``. ``headers`` may
    hold its API key."""
    url = f"{target_url.rstrip('/')}/rvtop/topology"

    async def find() -> Pages:
        fetcher = PageFetcher(url, headers, transport=transport, timeout_s=_TIMEOUT_S)
        try:
            return topology_pages(await fetcher.text())
        except (httpx.HTTPError, httpx.InvalidURL, TransportError) as problem:
            raise NotFound(f"/rvtop/topology: {short_error(problem, _TIMEOUT_S)}") from problem
        finally:
            await fetcher.close()

    return find


def topology_pages(text: str) -> Pages:
    """The pages that a ``/rvtop/topology`` answer names. Raises NotFound."""
    try:
        rows = json.loads(text).get("nodes") or []
        found = [(row["metrics_url"], row) for row in rows[:MOST] if _is_url(row.get("metrics_url"))]
        return _named(
            [
                (url, told(row.get("hostname"), NAME_LIMIT), told(row.get("id"), NAME_LIMIT))
                for url, row in found
            ]
        )
    except (ValueError, AttributeError, TypeError, RecursionError) as problem:
        raise NotFound("/rvtop/topology: not the answer of a backend of ours") from problem


def _is_url(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _URL_LIMIT and printable(value) == value


def from_machine() -> Callable[[], Awaitable[Pages]]:
    """Finds the pages by the service discovery file of the Ray cluster that runs on this machine at the time;
    NotFound when none runs."""

    async def find() -> Pages:
        path = await asyncio.to_thread(discovery_file)
        if path is None:
            raise NotFound("no Ray cluster runs on this machine any more")
        try:
            return file_pages(await asyncio.to_thread(path.read_text, "utf-8"))
        except OSError as problem:
            raise NotFound(f"{path.name}: {problem.strerror}") from problem

    return find


def file_pages(text: str) -> Pages:
    """The pages that a service discovery file names. Raises NotFound."""
    try:
        named = [target for group in json.loads(text) for target in group["targets"]]
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise NotFound(f"{DISCOVERY_FILE}: not Prometheus' format") from problem
    targets = [target for target in named if _is_url(target)][:MOST]
    urls = [f"http://{target}/metrics" for target in dict.fromkeys(targets)]
    return {url: _own_name(urlsplit(url).hostname or "") for url in urls}


def _named(rows: list[tuple[str, str, str]]) -> Pages:
    """(url, hostname, id) with names that tell nodes of one machine apart."""
    hosts = [host for _, host, _ in rows]
    return {
        url: host if hosts.count(host) == 1 or not key else f"{host}/{key[:6]}" for url, host, key in rows
    }


def _own_name(host: str) -> str:
    """This machine's name for an address of its own, so that NVML's GPUs and Ray's are the same ones."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))  # works only for an address of this machine
        except OSError:
            return ""
    return platform.node()
