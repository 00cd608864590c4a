"""Which sources to ask, from the URL of a target."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from rvtop.net.place import GRPC
from rvtop.net.transport import Transport
from rvtop.telemetry.added import added_sources
from rvtop.telemetry.gpu import NvmlSource
from rvtop.telemetry.prometheus import PrometheusSource, origin
from rvtop.telemetry.rapl import RaplSource, packages
from rvtop.telemetry.ray import RaySource, from_machine, from_topology
from rvtop.telemetry.ray_local import discovery_file
from rvtop.telemetry.sample import TelemetrySource


def metrics_url(target_url: str) -> str:
    """Where a target's metrics page usually is: ``/metrics`` beside its ``/v1``."""
    return f"{_base(target_url)}/metrics"


def _base(url: str) -> str:
    parts = urlsplit(url)
    prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{prefix}"


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine by a loopback name or address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sources_for(
    target_url: str,
    metrics_urls: Sequence[str] = (),
    api_key: str | None = None,
    *,
    topology: str | None = None,
    on_ray: bool = False,
    transport: Transport | None = None,
) -> list[TelemetrySource]:
    """The sources of a target: its metrics page (or ``metrics_urls`` instead, vLLM's, ours, Ray's or a DCGM
    exporter's); its Ray cluster; and NVML and RAPL when it runs on this machine.

    A ``topology`` of ours tells itself whether it is ``on_ray`` and where; another server on this machine
    counts as part of the Ray cluster that runs here, if one does. ``api_key`` (an empty one is none) and the
    headers of ``transport`` go only to pages of the target's own origin, its TLS options and unix socket only
    to pages of the target's own host. Opens no connection. Raises TransportError.
    """
    transport = transport or Transport()
    own = [] if target_url.startswith(GRPC) else [metrics_url(target_url)]  # gRPC has no pages
    urls = list(dict.fromkeys(metrics_urls)) or own
    private = {**transport.key_headers(api_key), **transport.headers}
    sources: list[TelemetrySource] = []
    for url, name in zip(urls, _names(urls), strict=True):
        headers = private if origin(url) == origin(target_url) else {}
        same_host = urlsplit(url).hostname == urlsplit(target_url).hostname
        sources.append(PrometheusSource(url, name, headers, transport=transport if same_host else None))
    local = is_loopback(target_url) or transport.unix_socket is not None
    if local:
        sources.append(NvmlSource())
        if found := packages():
            sources.append(RaplSource(found))
    if on_ray:
        sources.append(RaySource(from_topology(_base(target_url), private, transport)))
    elif topology is None and local and discovery_file() is not None:
        sources.append(RaySource(from_machine(), engines=True))
    return [*sources, *added_sources(target_url)]


def names_of_target(sources: Sequence[TelemetrySource], target_url: str) -> frozenset[str]:
    """The names of those ``sources`` that the target itself answers: what they tell, it tells."""
    return frozenset(
        source.name
        for source in sources
        if isinstance(source, PrometheusSource) and origin(source.url) == origin(target_url)
    )


def _names(urls: Sequence[str]) -> list[str]:
    """``metrics`` for the only one; else host and port, with the path where that is needed."""
    if len(urls) == 1:
        return ["metrics"]
    hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
    return [
        host if hosts.count(host) == 1 else host + urlsplit(url).path
        for url, host in zip(urls, hosts, strict=True)
    ]
