"""Vectors in LanceDB: a table in a folder of the cache, built once for the same vectors and searched from the
disk, so that several processes share it. Imported only where ``--vector-store lancedb`` asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from backends.models import build_once
from backends.rag.cells import EXACT_BELOW, Rows, cells_of, digest, probes_for
from backends.rag.embed import Vectors
from backends.rag.errors import RagError

_TABLE, _FACTS = "vectors", "facts.json"
# Rows that go into the table at once.
_PART = 20_000


class LanceStore:
    """See :class:`backends.rag.stores.VectorStore`."""

    name = "lancedb"

    def __init__(self, folder: Path) -> None:
        """Opens a table that :meth:`of` built. Raises RagError."""
        try:
            facts = json.loads((folder / _FACTS).read_text("utf-8"))
            self.size, self.dimension = int(facts["size"]), int(facts["dimension"])
            self._cells, self._probes = facts["cells"], facts["probes"]
            self._table = lancedb.connect(str(folder)).open_table(_TABLE)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RagError(f"{folder} is damaged: {_line(error)}; remove that folder") from error
        self.how = "exact" if self._cells is None else f"{self._probes} of {self._cells} cells"

    @classmethod
    def of(cls, vectors: Vectors) -> LanceStore:
        """The store of these vectors, (n, dimension) of length 1, built on first use. Raises RagError."""
        try:
            made = build_once(
                "indexes", f"lance-{digest(vectors)[:12]}", lambda folder: _build(vectors, folder)
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise RagError(f"cannot build the vector store lancedb: {_line(error)}") from error
        return cls(made)

    def search(self, queries: Vectors, top_k: int) -> tuple[Vectors, Rows]:
        """See :class:`backends.rag.stores.VectorStore`."""
        return _found(self._table, queries, top_k, self._probes)


def _build(vectors: Vectors, folder: Path) -> None:
    size, dimension = vectors.shape
    schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dimension))])
    table = lancedb.connect(str(folder)).create_table(_TABLE, schema=schema)
    for start in range(0, size, _PART):
        part = vectors[start : start + _PART]
        values = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), dimension)
        numbers = pa.array(np.arange(start, start + len(part)))
        table.add(pa.Table.from_arrays([numbers, values], schema=schema))
    cells = probes = None
    if size >= EXACT_BELOW:
        cells = cells_of(size)
        table.create_index(metric="dot", index_type="IVF_FLAT", num_partitions=cells)

        def search(queries: Vectors, top_k: int, tried: int) -> Rows:
            return _found(table, queries, top_k, tried)[1]

        probes = probes_for(vectors, cells, search)
    facts = {"size": size, "dimension": dimension, "cells": cells, "probes": probes}
    (folder / _FACTS).write_text(json.dumps(facts), "utf-8")


def _found(table: Any, queries: Vectors, top_k: int, probes: int | None) -> tuple[Vectors, Rows]:
    scores = np.full((len(queries), top_k), -1.0, np.float32)
    rows = np.full((len(queries), top_k), -1, np.int64)
    for number, query in enumerate(queries):
        asked = table.search(query).distance_type("dot").select(["row", "_distance"]).limit(top_k)
        found = (asked if probes is None else asked.nprobes(probes)).to_arrow()
        # LanceDB's distance under `dot` is 1 − the inner product.
        scores[number, : found.num_rows] = 1.0 - found["_distance"].to_numpy()
        rows[number, : found.num_rows] = found["row"].to_numpy()
    return scores, rows


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
