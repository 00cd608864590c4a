"""What each node of a Ray cluster exports: its page of metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import aiohttp

from backends.cluster.cluster import Node, list_nodes

log = logging.getLogger("backends.cluster.node_pages")

ASK_LIMIT_S = 2.0


async def node_pages(nodes: Sequence[Node] | None = None) -> list[str]:
    """Those of the nodes that have one, by default of all that are alive; empty while one does not answer."""
    nodes = await list_nodes() if nodes is None else nodes
    urls = [node.metrics_url for node in nodes if node.metrics_url is not None]
    limit = aiohttp.ClientTimeout(total=ASK_LIMIT_S)
    async with aiohttp.ClientSession(timeout=limit, trust_env=False) as http:
        return list(await asyncio.gather(*(_page(http, url) for url in urls)))


async def _page(http: aiohttp.ClientSession, url: str) -> str:
    try:
        async with http.get(url) as answer:
            return await answer.text() if answer.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.debug("%s does not answer: %r", url, error)
        return ""
