"""What searches vectors: FAISS, or LanceDB. Each is a :class:`VectorStore` over the vectors of an index, and
nothing else of retrieval knows which it is.

A few vectors are searched exactly. From ``EXACT_BELOW`` on they lie in cells around centres (IVF: J. Sivic
and A. Zisserman, 2003), and only the nearest cells are looked into: how many is measured on vectors of the
store, so that the share of the true best that are found (recall) is ``RECALL`` at least."""

from __future__ import annotations

import os
from typing import Any, Protocol

import faiss
import numpy as np

from backends.rag.cells import EXACT_BELOW, Rows, cells_of, probes_for
from backends.rag.embed import Vectors
from backends.rag.errors import RagError

# Vectors a cell that its centre is trained on, at most.
_TRAINED_ON = 64


class VectorStore(Protocol):
    """``size`` unit vectors of ``dimension`` numbers, searched by cosine. ``how`` says in a word how:
    ``exact``, or how many cells of how many are looked into."""

    name: str
    size: int
    dimension: int
    how: str

    def search(self, queries: Vectors, top_k: int) -> tuple[Vectors, Rows]:
        """For each row of ``queries`` (n, dimension) the cosines, best first, and which vectors they are:
        both (n, top_k); where there are fewer, the rest of a row is -1. From any thread."""
        ...


def open_store(name: str, index: Any) -> VectorStore:
    """The store of that name (``backends.settings.graph.STORES``) over the vectors of an
    :class:`backends.rag.index.Index`. Raises RagError, also where its package is not installed."""
    if name == FaissStore.name:
        return FaissStore(vectors_of(index) if index.vectors.ntotal >= EXACT_BELOW else index.vectors)
    if name != "lancedb":
        raise RagError(f"no vector store {name!r}: choose faiss or lancedb")
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns of each cell that is empty
    try:
        from backends.rag.lance_store import LanceStore
    except ModuleNotFoundError as error:
        raise RagError(
            f"the vector store lancedb needs {error.name}: pip install 'rvtop[lance]', or choose faiss"
        ) from error
    return LanceStore.of(vectors_of(index))


def vectors_of(index: Any) -> Vectors:
    """All vectors of an index, (chunks, dimension)."""
    rows: Vectors = index.vectors.reconstruct_n(0, index.vectors.ntotal)
    return rows


class FaissStore:
    """In the memory of this process."""

    name = "faiss"

    def __init__(self, vectors: Any) -> None:
        """``vectors`` are an array, or an index of FAISS's, which is taken as it is."""
        if isinstance(vectors, np.ndarray):
            self._index, self.how = _faiss_index(vectors)
        else:
            self._index, self.how = vectors, "exact"
        self.size, self.dimension = int(self._index.ntotal), int(self._index.d)

    def search(self, queries: Vectors, top_k: int) -> tuple[Vectors, Rows]:
        """See :class:`VectorStore`."""
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), top_k)
        return scores, rows


def _faiss_index(vectors: Vectors) -> tuple[Any, str]:
    size, dimension = vectors.shape
    if size < EXACT_BELOW:
        flat = faiss.IndexFlatIP(dimension)
        flat.add(vectors)
        return flat, "exact"
    cells = cells_of(size)
    centres = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFFlat(centres, dimension, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = _TRAINED_ON
    index.train(vectors)
    index.add(vectors)

    def search(queries: Vectors, top_k: int, probes: int) -> Rows:
        index.nprobe = probes
        rows: Rows = index.search(queries, top_k)[1]
        return rows

    index.nprobe = probes_for(vectors, cells, search)
    return index, f"{index.nprobe} of {cells} cells"
