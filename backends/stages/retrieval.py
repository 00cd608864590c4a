"""The stages of retrieval, each a deployment: questions to vectors, vectors to passages, passages in
order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backends.api.embeddings import Embedded
from backends.settings.options import Options
from backends.stages.stage import Stage, loaded

if TYPE_CHECKING:  # faiss, which only the replicas need
    from backends.rag.embed import Vectors

#: How many times as many passages as asked for a reranker chooses from.
FETCHED = 4
#: Passages that a reranker chooses from at most.
MOST_FETCHED = 100


class Embed(Stage):
    """Questions that arrive together are embedded in one call (`@serve.batch`)."""

    def __init__(self, options: Options, threads: int) -> None:
        from ray import serve

        from backends.rag.embed import Embedder
        from backends.rag.retriever import embedder_of

        super().__init__("embed", threads)
        index, asked = options.index, options.graph
        assert index is not None
        spec = loaded(f"--index {index}", embedder_of, index, options.embedder)
        self._embedder = loaded("--embedder", Embedder.load, spec, self.device)
        self.told(embedder=self._embedder.name, max_batch=asked.embed_batch)

        @serve.batch(max_batch_size=asked.embed_batch, batch_wait_timeout_s=asked.embed_wait_s)
        async def together(texts: list[str]) -> list[Vectors]:
            return list(await self.compute(len(texts), self._embedder.encode, texts))

        self._together = together

    async def one(self, text: str) -> Vectors:
        """The unit vector of a question, (dimension,)."""
        vector: Vectors = await self._together(text)
        return vector

    async def many(self, texts: Sequence[str]) -> Embedded:
        """Those of texts that came in one request."""
        vectors = await self.compute(1, self._embedder.encode, list(texts))
        return Embedded(vectors, await asyncio.to_thread(self._embedder.count, texts))

    async def name(self) -> str:
        """The embedder's, as `/v1/embeddings` calls it."""
        return self._embedder.name


class Search(Stage):
    """The passages of an index whose vectors are nearest."""

    def __init__(self, options: Options, threads: int) -> None:
        from backends.rag import stores
        from backends.rag.retriever import Retriever

        super().__init__("search", threads)
        assert options.index is not None
        where = f"--index {options.index}"
        # With its embedder, which has to fit; only the index is kept.
        self._index = loaded(where, Retriever.open, options.index, options.embedder).index
        self._store = loaded(where, stores.open_store, options.graph.store, self._index)
        self.told(store=self._store.name, vectors=self._store.size, how=self._store.how)

    async def find(self, vector: Vectors, top_k: int) -> list[str]:
        """Texts of the nearest, best first: ``top_k``, or all there are."""
        return await self.compute(1, self._find, vector, top_k)

    def _find(self, vector: Vectors, top_k: int) -> list[str]:
        _, rows = self._store.search(vector[None], min(top_k, self._store.size))
        return [self._index.entries[number].text for number in rows[0].tolist() if number >= 0]


class Rerank(Stage):
    """The passages that answer best."""

    def __init__(self, options: Options, threads: int, *_before: Any) -> None:
        """``_before`` are the handles of the stages before it, which belong to its application."""
        from backends.rag import rerank

        super().__init__("rerank", threads)
        self._best = rerank.best
        self._reranker = loaded("graph", rerank.open_reranker, options.graph.reranker, self.device)
        self.told(reranker=self._reranker.name)

    async def best(self, question: str, passages: list[str], top_k: int) -> list[str]:
        """``top_k`` of them, best first."""
        chosen = await self.compute(1, self._best, self._reranker, question, passages, top_k)
        return [passages[number] for number in chosen]
