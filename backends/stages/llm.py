"""The last stage of a chat: a replica that asks the stages before it by handles, and then generates and
streams from a port of its own, so that no token passes through Ray."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backends.api.control import Control
from backends.api.embeddings import Embedded
from backends.api.http_aiohttp import HttpServer
from backends.api.retrieval import Questions
from backends.cluster.hf_actor import EngineSpec
from backends.cluster.vllm_service import KEEP_ALIVE_S, listen
from backends.errors import ApiError, internal, unavailable
from backends.serve.replica import HfReplica
from backends.settings.graph import RETRIEVAL
from backends.settings.options import Options
from backends.stages.retrieval import FETCHED, MOST_FETCHED

TOPOLOGY = "graph"
#: After it was told to end, how long a replica answers as before: until the router knows.
NOTICED_S = 3.0


@dataclass(frozen=True)
class Handles:
    """Of Serve's, to the stages of retrieval; ``rerank`` None: left out."""

    embed: Any
    search: Any
    rerank: Any | None


class GraphRetrieval(Questions):
    """Looks up questions by way of the stages, each of which is another process, on whatever node.
    ``embedder`` is the name of theirs."""

    def __init__(self, handles: Handles, embedder: str) -> None:
        self._handles = handles
        self.embedder = embedder
        #: By stage: requests that passed it, and the milliseconds from their calls to their answers.
        self.passed: dict[str, list[float]] = {stage: [0, 0.0] for stage in RETRIEVAL}

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """See :class:`backends.api.embeddings.Embeds`."""
        vectors, tokens = await answer_of("embed", self._handles.embed.many.remote(list(texts)))
        return Embedded(vectors, tokens)

    async def find(self, question: str, top_k: int, took: dict[str, float | None] | None = None) -> list[str]:
        """See :class:`Questions`; what each stage took, its calls' way included, goes into ``took``."""
        reranked = self._handles.rerank is not None
        fetched = max(top_k, min(MOST_FETCHED, top_k * FETCHED)) if reranked else top_k
        took = {} if took is None else took
        vector = await self._timed("embed", self._handles.embed.one.remote(question), took)
        passages = await self._timed("search", self._handles.search.find.remote(vector, fetched), took)
        if self._handles.rerank is None:
            return list(passages)
        best = self._handles.rerank.best.remote(question, passages, top_k)
        return list(await self._timed("rerank", best, took))

    async def _timed(self, stage: str, call: Any, took: dict[str, float | None]) -> Any:
        began = time.perf_counter()
        answer = await answer_of(stage, call)
        ms = (time.perf_counter() - began) * 1e3
        took[f"{stage}_ms"] = ms
        passed = self.passed[stage]
        passed[0] += 1
        passed[1] += ms
        return answer


async def answer_of(stage: str, call: Any) -> Any:
    """What a stage answers. Raises ApiError: 429 where its queue is full, 503 where its replica died, 500."""
    from ray.exceptions import RayActorError, RayError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    try:
        return await call
    except BackPressureError as error:
        text = f"The queue of stage {stage} is full; try again later."
        raise ApiError(429, text, type="TooManyRequestsError", retry_after=1) from error
    except (RayActorError, DeploymentUnavailableError) as error:
        raise unavailable(f"Stage {stage} does not answer; Serve replaces its replica.") from error
    except RayError as error:
        raise internal(f"Stage {stage} failed; its log has the reason.") from error


class LlmReplica(HfReplica):
    """Answers at a port of its own, to whoever has the run's bearer: the router."""

    topology = TOPOLOGY

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, spec: EngineSpec, options: Options, token: str, replicas: int, handles: Handles | None
    ) -> None:
        """``replicas`` there are of it at the start, which share what may wait; ``handles`` None: it looks
        nothing up."""
        from ray import serve, util

        self._handles = handles
        self._replicas = replicas
        self._retrieval: GraphRetrieval | None = None
        self._draining = False
        await super().__init__(spec, options, token)
        # On a cluster of ours no other machine needs to reach it.
        host = "127.0.0.1" if options.ray_address is None else util.get_node_ip_address()
        listener = listen(host)
        self._address = (host, int(listener.getsockname()[1]))
        self._replica = serve.get_replica_context().replica_id.unique_id
        self._server = HttpServer(token, keep_alive_s=KEEP_ALIVE_S)
        await self._server.start(listener)
        self._server.serve(self._service, Control(TOPOLOGY, [self._service]))
        self._grace_s = options.serve.grace_s

    def queue_of(self, options: Options) -> int | None:
        """Serve sees none of its requests, so they wait here."""
        return None if options.max_queue is None else math.ceil(options.max_queue / self._replicas)

    async def open_retrieval(self, options: Options) -> GraphRetrieval | None:
        if self._handles is not None:
            name = await self._handles.embed.name.remote()
            self._retrieval = GraphRetrieval(self._handles, name)
        return self._retrieval

    async def record_routing_stats(self) -> dict[str, Any]:
        """As its base, with where it answers, and what passed the stages for it."""
        from ray import get_runtime_context

        told = await super().record_routing_stats()
        told["row"] |= {"replica": self._replica, "actor": get_runtime_context().get_actor_id()}
        if self._draining:
            told["row"]["state"] = "draining"
        passed = self._retrieval.passed if self._retrieval is not None else {}
        return told | {
            "address": self._address,
            "passed": {stage: tuple(all_) for stage, all_ in passed.items()},
        }

    async def __del__(self) -> None:
        """Serve calls it when it retires the replica; it knows of none of its requests, so it waits for them
        here."""
        self._draining = True
        if hasattr(self, "_server"):
            await asyncio.sleep(NOTICED_S)
            await self._service.drain(max(0.0, self._grace_s - NOTICED_S))
            await self._server.close()
        await super().__del__()
