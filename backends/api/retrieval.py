"""Server-side retrieval: what requests with ``rag`` get put in front of their question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from backends.api.embeddings import Embedded
from backends.corpus.prompt import build_messages
from backends.errors import UsageError, bad_request
from backends.process.events import StartStep, Steps
from backends.rag.errors import RagError
from backends.settings.options import Options

if TYPE_CHECKING:
    from backends.rag.retriever import Retriever

# Questions that are embedded together at most.
BATCH = 32


class Hit(Protocol):
    @property
    def text(self) -> str: ...


Search = Callable[[Sequence[str], int], Sequence[Sequence[Hit]]]


class Embedder(Protocol):
    """A :class:`backends.rag.embed.Embedder`."""

    name: str

    def encode(self, texts: Sequence[str]) -> Any: ...

    def count(self, texts: Sequence[str]) -> int: ...


class Questions:
    """What puts passages in front of the question of a conversation; where they come from is :meth:`find`."""

    async def expand(
        self, messages: Sequence[dict[str, Any]], top_k: int, took: dict[str, float | None]
    ) -> list[dict[str, Any]]:
        """See :class:`backends.api.service.Retrieval`."""
        at = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=None)
        if at is None or not messages[at]["content"].strip():
            raise bad_request("`rag` needs a user message to look up.", "messages")
        question = messages[at]["content"]
        return put_in(messages, at, build_messages(question, await self.find(question, top_k, took)))

    async def find(self, question: str, top_k: int, took: dict[str, float | None] | None = None) -> list[str]:
        """Texts of the best chunks, best first. What parts of it took, in ms, goes into ``took``."""
        raise NotImplementedError


class IndexRetrieval(Questions):
    """Looks up questions in an index, off the event loop, one batch at a time.

    Questions that arrive while a batch is being embedded make the next one: alone a question does
    not wait, under load the embedder works on many at once. ``search`` is `Retriever.search`, ``embedder``
    what it embeds questions with.
    """

    def __init__(self, search: Search, embedder: Embedder) -> None:
        self._search = search
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="retrieve")
        self._asked: list[tuple[str, int, asyncio.Future[list[str]]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def embedder(self) -> str:
        return self._embedder.name

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of texts, as an index has them: of length 1."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Embedded:
        return Embedded(self._embedder.encode(texts), self._embedder.count(texts))

    async def find(self, question: str, top_k: int, took: dict[str, float | None] | None = None) -> list[str]:
        """Texts of the best chunks, best first."""
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._asked.append((question, top_k, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            batch, self._asked = self._asked[:BATCH], self._asked[BATCH:]
            batch = [asked for asked in batch if not asked[2].done()]  # some clients are gone by now
            if not batch:
                continue
            questions, most = [asked[0] for asked in batch], max(asked[1] for asked in batch)
            found = loop.run_in_executor(self._thread, self._search, questions, most)
            await asyncio.wait([found])
            error = found.exception()
            for n, (_, top_k, answer) in enumerate(batch):
                if answer.done():
                    continue
                if error is not None:  # whatever it is, it belongs to those who asked
                    answer.set_exception(error)
                else:
                    answer.set_result([hit.text for hit in found.result()[n][:top_k]])
        self._worker = None


def put_in(
    messages: Sequence[dict[str, Any]], at: int, built: Sequence[dict[str, str]]
) -> list[dict[str, Any]]:
    """The conversation with its question (``messages[at]``) replaced by ``built``'s, and ``built``'s system
    message in front unless the client gave one of its own."""
    system, user = built
    own_system = any(message["role"] == "system" for message in messages)
    asked = {**messages[at], "content": user["content"]}
    return [*([] if own_system else [system]), *messages[:at], asked, *messages[at + 1 :]]


async def open_retrieval(options: Options, steps: Steps) -> IndexRetrieval | None:
    """Opens ``--index`` with its embedder; None without one. Raises UsageError when the index is refused."""
    if options.index is None:
        return None
    with steps.step("index", options.index) as step:
        try:
            retriever = await asyncio.to_thread(_open, options.index, options.embedder, step)
            return IndexRetrieval(retriever.search, retriever.embedder)
        except RagError as error:
            raise UsageError(f"--index {options.index}: {error}") from error


def _open(index: str, embedder: str | None, step: StartStep) -> Retriever:
    from backends.rag.retriever import Retriever  # faiss and sentence_transformers: seconds to import

    return Retriever.open(index, embedder, progress=step.progress)
