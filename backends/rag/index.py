"""A FAISS index with its texts, in open formats: what was embedded, by what, and how it was cut.

A folder holds ``index.faiss`` (FAISS's own format, inner products of unit vectors), ``documents.jsonl`` (a
chunk a line, in the index's order) and ``meta.json`` (see `Meta`). Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss

from backends.corpus import chunk as chunking
from backends.corpus.chunk import Document
from backends.rag import sources
from backends.rag.embed import Embedder, Vectors
from backends.rag.errors import RagError

SCHEMA = 1
FAISS_FILE, DOCUMENTS_FILE, META_FILE = "index.faiss", "documents.jsonl", "meta.json"
LANGCHAIN_FILE = "index.pkl"


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk as found: ``extra`` is what else is known of it (offsets, or an imported document's
    metadata)."""

    id: str
    text: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Meta:
    """What must fit together: the vectors, the texts, and the embedder of the questions."""

    embedder: str
    embedder_digest: str
    dimension: int
    chunks: int
    chunking: Mapping[str, int] | None  # {"size", "overlap"} in characters; None: cut by someone else
    corpus_digest: str


@dataclass(frozen=True)
class Index:
    """``vectors`` is a FAISS index over as many unit vectors as there are entries, in their order."""

    meta: Meta
    entries: Sequence[Entry]
    vectors: Any

    def search(self, queries: Vectors, top_k: int) -> list[list[tuple[float, Entry]]]:
        """For each row the best (cosine, entry), best first: ``top_k`` of them, or all there are."""
        scores, rows = self.vectors.search(queries, min(top_k, len(self.entries)))
        return [
            [(float(s), self.entries[n]) for s, n in zip(*pair, strict=True)]
            for pair in zip(scores, rows, strict=True)
        ]


def build(
    documents: Sequence[Document],
    embedder: Embedder,
    size: int = chunking.SIZE,
    overlap: int = chunking.OVERLAP,
    on_done: Callable[[int, int], None] | None = None,
) -> Index:
    """Cuts, embeds, indexes. ``on_done`` gets (chunks embedded, chunks in all). Raises RagError."""
    try:
        chunks = chunking.chunks(documents, size, overlap)
    except ValueError as error:
        raise RagError(str(error)) from error
    entries = [Entry(c.id, c.text, {"doc": c.doc, "start": c.start, "end": c.end}) for c in chunks]
    texts = [entry.text for entry in entries]
    vectors = embedder.encode(texts, lambda n: on_done(n, len(texts)) if on_done else None)
    return assemble(entries, vectors, embedder, sources.digest(documents), {"size": size, "overlap": overlap})


def assemble(
    entries: Sequence[Entry],
    vectors: Vectors,
    embedder: Embedder,
    corpus_digest: str,
    chunks: Mapping[str, int] | None,
) -> Index:
    """An index of ready vectors, (len(entries), dimension)."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    meta = Meta(embedder.name, embedder.digest, vectors.shape[1], len(entries), chunks, corpus_digest)
    return Index(meta, entries, flat)


def check_target(folder: Path) -> None:
    """Raises RagError unless an index may be written there: nothing yet, an empty folder, or an index."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / META_FILE).is_file():
        raise RagError(f"{folder} holds something else than an rvtop index: choose another --out")
    if folder.exists() and not folder.is_dir():
        raise RagError(f"{folder} is a file: choose another --out")


def save(index: Index, folder: Path) -> None:
    """Writes the folder whole or not at all; an index that was there is replaced. Raises RagError."""
    check_target(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
            fresh = Path(work) / "new"
            write(index, fresh)
            if folder.exists():
                os.replace(folder, Path(work) / "old")
            os.replace(fresh, folder)
    except OSError as error:
        raise RagError(f"{folder}: cannot be written: {error.strerror or error}") from error


def write(index: Index, folder: Path) -> None:
    """The three files, into a folder that need not exist."""
    folder.mkdir(exist_ok=True)
    (folder / FAISS_FILE).write_bytes(faiss.serialize_index(index.vectors).tobytes())
    with (folder / DOCUMENTS_FILE).open("w", encoding="utf-8", newline="\n") as out:
        for entry in index.entries:
            row = {"id": entry.id, "text": entry.text, **entry.extra}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    files = {name: _sha256(folder / name) for name in (FAISS_FILE, DOCUMENTS_FILE)}
    meta = {"schema": SCHEMA, "kind": "rvtop-index", **asdict(index.meta), "files": files}
    (folder / META_FILE).write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load(folder: Path) -> Index:
    """The index in a folder, with everything checked that its metadata states. Raises RagError."""
    meta, files = _meta(folder)
    for name in (FAISS_FILE, DOCUMENTS_FILE):
        if not (folder / name).is_file():
            raise RagError(f"{folder} is damaged: {name} is missing; build the index again")
        if files.get(name) != _sha256(folder / name):
            raise RagError(f"{folder} is damaged: {name} does not match its checksum; build the index again")
    try:
        vectors = faiss.read_index(str(folder / FAISS_FILE))
        entries = _entries(folder / DOCUMENTS_FILE)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise RagError(f"{folder} is damaged: {' '.join(str(error).split())}") from error
    if not vectors.ntotal == len(entries) == meta.chunks:
        counts = f"{vectors.ntotal} vectors, {len(entries)} texts, {meta.chunks} in {META_FILE}"
        raise RagError(f"{folder} does not fit together: {counts}; build the index again")
    if vectors.d != meta.dimension:
        widths = f"vectors of {vectors.d} numbers, {meta.dimension} in {META_FILE}"
        raise RagError(f"{folder} does not fit together: {widths}; build the index again")
    if vectors.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise RagError(f"{folder} is not made for cosines (inner products); build the index again")
    return Index(meta, entries, vectors)


def check_embedder(meta: Meta, embedder: Embedder, folder: Path) -> None:
    """Raises RagError unless questions embedded by this model can be looked up in that index."""
    if meta.embedder_digest == embedder.digest and meta.dimension == embedder.dimension:
        return
    fix = f"pass --embedder {meta.embedder}, or build the index again with this one"
    if meta.dimension != embedder.dimension:
        what = f"vectors of {meta.dimension} numbers, and {embedder.name} makes {embedder.dimension}"
    else:
        what = f"vectors of another model ({meta.embedder}) than {embedder.name}"
    raise RagError(f"{folder} holds {what}: {fix}")


def meta_of(folder: Path) -> Meta:
    """What an index says of itself; its files are not looked at. Raises RagError."""
    return _meta(folder)[0]


def _meta(folder: Path) -> tuple[Meta, Mapping[str, str]]:
    if not folder.is_dir():
        what = "is a file, not an index" if folder.exists() else "does not exist"
        raise RagError(f"{folder} {what}: build an index with `rvtop index build SOURCE… --out {folder}`")
    path = folder / META_FILE
    if not path.is_file():
        if (folder / LANGCHAIN_FILE).is_file():
            raise RagError(
                f"{folder} is a LangChain index (it has {LANGCHAIN_FILE}): convert it with "
                f"`rvtop index import {folder} --out NEWDIR`"
            )
        raise RagError(f"{folder} is not an rvtop index: it has no {META_FILE}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["kind"] != "rvtop-index":
            raise ValueError(f"it is a {raw['kind']!r}")
        if raw["schema"] != SCHEMA:
            raise RagError(
                f"{folder} has schema {raw['schema']!r} and this rvtop reads {SCHEMA}: build the index again"
            )
        files = dict(raw["files"])
        known = {name: raw[name] for name in Meta.__dataclass_fields__}
        if not all(isinstance(known[name], str) for name in ("embedder", "embedder_digest", "corpus_digest")):
            raise TypeError("a name or digest is not a text")
    except (ValueError, KeyError, TypeError) as error:
        raise RagError(f"{path} is not the {META_FILE} of an rvtop index: {error}") from error
    return Meta(**known), files


def _entries(path: Path) -> list[Entry]:
    entries = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            entries.append(Entry(str(row.pop("id")), str(row.pop("text")), row))
    return entries


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
