"""What searches vectors: FAISS, or LanceDB. Each is a :class:`VectorStore` over the vectors of an index, and
nothing else of retrieval knows which it is.

A few vectors are searched exactly. From ``EXACT_BELOW`` on they lie in cells around centres (IVF: J. Sivic
and A. Zisserman, 2003), and only the nearest cells are looked into: how many is measured on vectors of the
store, so that the share of the true best that are found (recall) is ``RECALL`` at least."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from backends.rag.embed import Vectors
from backends.rag.errors import RagError

#: Below so many vectors each search looks at all of them.
EXACT_BELOW = 50_000
#: What is aimed at, above what is promised (0.95): the measured queries are a sample.
RECALL = 0.98
_SAMPLES = 200
_TOP_K = 10
# Vectors a cell that its centre is trained on, at most.
_TRAINED_ON = 64

Rows = NDArray[np.int64]


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


def cells_of(size: int) -> int:
    """Cells for so many vectors: 4 √n, as FAISS's guide advises up to a million."""
    return max(1, round(4 * math.sqrt(size)))


def exact(vectors: Vectors, queries: Vectors, top_k: int) -> Rows:
    """Which vectors really are the best of each query, best first."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    rows: Rows = flat.search(queries, top_k)[1]
    return rows


def recall(found: Rows, true: Rows) -> float:
    """The share of the true best that were found, 0..1; both (n, k)."""
    hits = sum(len(set(ours) & set(best)) for ours, best in zip(found.tolist(), true.tolist(), strict=True))
    return hits / true.size


def samples(vectors: Vectors) -> Vectors:
    """Queries near vectors of a store, the same each time: (at most 200, dimension)."""
    random = np.random.default_rng(0)
    chosen = vectors[random.choice(len(vectors), min(_SAMPLES, len(vectors)), replace=False)]
    moved = chosen + random.normal(0, 0.5 / math.sqrt(vectors.shape[1]), chosen.shape)
    unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return unit


def probes_for(
    vectors: Vectors, cells: int, search: Callable[[Vectors, int, int], Rows], target: float = RECALL
) -> int:
    """The fewest cells to look into, doubled from 1, with which ``search(queries, top_k, probes)`` finds
    ``target`` of the true best; all of them where nothing less does."""
    queries = samples(vectors)
    true = exact(vectors, queries, _TOP_K)
    probes = 1
    while probes < cells and recall(search(queries, _TOP_K, probes), true) < target:
        probes *= 2
    return min(probes, cells)


def digest(vectors: Vectors) -> str:
    """Of the numbers, whatever store they are in."""
    return hashlib.sha256(f"{vectors.shape}".encode() + vectors.tobytes()).hexdigest()


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
