"""How many cells vectors are put into, and how many of them are looked into so that little is lost. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray

from backends.rag.embed import Vectors

#: Below so many vectors each search looks at all of them.
EXACT_BELOW = 50_000
#: What is aimed at, above what is promised (0.95): the measured queries are a sample.
RECALL = 0.98
_SAMPLES = 200
_TOP_K = 10

Rows = NDArray[np.int64]


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
