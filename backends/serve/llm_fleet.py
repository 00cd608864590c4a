"""The head's view of Serve LLM's replicas. They answer no questions of ours, so what an engine does is read
where Ray puts it: on the page of metrics of each node.

Ray's own figures are late. A replica hands them to its node every ``metrics_report_interval_ms`` (10 s by
default), so what `/metrics` says of vLLM is up to that old; on a cluster of ours it is one second
(:data:`REPORT_MS`). How many requests a replica holds is asked of the replica itself, and is of now.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from backends.api.metrics import merge_pages
from backends.cluster.cluster import Node
from backends.cluster.node_pages import node_pages
from backends.engines.protocol import EngineInfo
from backends.router.router import Router
from backends.serve.fleet import ServeFleet
from backends.serve.llm_app import Checked
from backends.serve.llm_page import of_replicas
from backends.serve.model_app import App
from backends.settings.accelerators import CPU
from backends.settings.autoscale import Autoscale

REPORT_MS = 1000


class LlmFleet(ServeFleet):
    """The replicas of LLM servers."""

    def __init__(
        self,
        apps: Sequence[App],
        router: Router,
        checked: dict[str, Checked],
        nodes: Callable[[], Awaitable[Sequence[Node]]],
        published: Mapping[str, Mapping[str, str]],
        scale: Autoscale | None = None,
    ) -> None:
        """``published``: where the engine of a model tells what it caches."""
        super().__init__(apps, router, scale)
        self._published = published
        self._checked = checked
        self._nodes = nodes
        self._places: dict[str, tuple[int, str, str]] = {}

    async def metrics_page(self) -> str:
        """vLLM's series of our replicas, and as ``engine="queue"`` what waits in Serve for one of them."""
        pages, *answers = await asyncio.gather(
            node_pages(await self._nodes()), *(self._ask(app) for app in self._apps)
        )
        names = [figures["row"]["engine"] for app in answers for figures in app]
        engines = {name.rpartition("-")[2]: name for name in names}
        return merge_pages(
            [
                *(of_replicas(page, engines) for page in pages),
                await self._queue_page(answers),
                self._scaling_page(),
            ]
        )

    # -- inside ------------------------------------------------------------------------------------------

    async def _says(self, app: App, name: str, handle: Any) -> dict[str, Any]:
        ongoing = await handle.get_num_ongoing_requests.remote()
        info = self._info(app, self._engine(app, name), *self._places[name])
        return {"row": asdict(info) | {"state": "ready", "in_flight": ongoing}, "page": ""}

    def _engine(self, app: App, name: str) -> str:
        """Serve numbers replicas anew when some go; their own id is theirs for good, as counters need it."""
        return f"vllm-{app.app.rpartition('-')[2]}-{name.rpartition('#')[2]}"

    async def _met(self, name: str, handle: Any) -> None:
        pid, _, _, node_id, host, *_ = await handle.is_allocated.remote()
        self._places[name] = pid, node_id, host

    def _info(self, app: App, engine: str, pid: int, node_id: str, host: str) -> EngineInfo:
        made, share = self._checked[app.name].made, app.share
        return EngineInfo(
            engine=engine,
            kind="vllm",
            model=app.name,
            node=host,
            pid=pid,
            # How many GPUs, not which: the replica does not say.
            devices=(made.platform,) * math.ceil(share.num_gpus) or (CPU,),
            dtype=made.dtype,
            concurrency=made.concurrency,
            step_tokens=made.step_tokens,
            quantization=made.quantization,
            speculation=made.speculation,
            max_loras=made.max_loras,
            max_lora_rank=made.max_lora_rank,
            max_model_len=made.max_model_len,
            threads=None if share.num_gpus else share.threads,
            own_queue=True,
            node_id=node_id,
            kv_events=self._published.get(app.name),
        )
