"""Finds chunks for questions: an index and its embedder, ready for many threads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.corpus import chunk, sample
from backends.models import Progress, build_once
from backends.models.load import ModelError, default_embedder, resolve_embedder
from backends.rag import index
from backends.rag.embed import Embedder
from backends.rag.errors import RagError
from backends.rag.index import Index, Meta
from backends.rag.sources import SAMPLE


@dataclass(frozen=True, slots=True)
class Hit:
    """A found chunk; ``score`` is the cosine with the question, -1..1."""

    score: float
    chunk_id: str
    text: str


class Retriever:
    """Answers searches from any thread."""

    def __init__(self, found: Index, embedder: Embedder) -> None:
        self.index = found
        self.embedder = embedder

    @classmethod
    def open(
        cls,
        place: str | Path,
        embedder: str | None = None,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> Retriever:
        """The index in a folder, or ``sample``: that of the sample corpus, built on first use.

        Without an embedder, the one the index names is taken (``sample``: the tiny one), or the default
        one where that is not on this machine. Raises RagError, also when the two do not fit.
        """
        if str(place) == SAMPLE:
            model = Embedder.load(embedder or "tiny", device, progress)
            return cls(index.load(_sample(model, progress)), model)
        folder = Path(place).expanduser()
        found = index.load(folder)
        model = Embedder.load(embedder or _embedder_of(found.meta), device, progress)
        index.check_embedder(found.meta, model, folder)
        return cls(found, model)

    def search(self, texts: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each text its best chunks, best first: ``top_k``, or all where there are fewer."""
        if top_k < 1:
            raise RagError(f"top-k must be at least 1, not {top_k}")
        if not texts:
            return []
        rows = self.index.search(self.embedder.encode(texts), top_k)
        return [[Hit(score, entry.id, entry.text) for score, entry in row] for row in rows]


def _sample(embedder: Embedder, progress: Progress | None) -> Path:
    """The folder of the sample's index for this embedder."""

    def build(folder: Path) -> None:
        def report(done: int, total: int) -> None:
            if progress is not None:
                progress("sample index", done / total)

        index.write(index.build(sample.documents(), embedder, on_done=report), folder)

    recipe = hashlib.sha256(f"{index.SCHEMA} {sample.digest()} {embedder.digest}".encode())
    recipe.update(Path(chunk.__file__).read_bytes())
    try:
        return build_once("indexes", f"sample-{recipe.hexdigest()[:12]}", build)
    except OSError as error:
        raise RagError(f"cannot build the index of the sample corpus: {error}") from error


def embedder_of(place: str | Path, embedder: str | None = None) -> str:
    """The embedder with which :meth:`Retriever.open` opens an index, without reading its vectors. Raises
    RagError."""
    if embedder is not None or str(place) == SAMPLE:
        return embedder or "tiny"
    return _embedder_of(index.meta_of(Path(place).expanduser()))


def _embedder_of(meta: Meta) -> str:
    try:
        resolve_embedder(meta.embedder)
    except ModelError:
        return default_embedder()
    return meta.embedder
