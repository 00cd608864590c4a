"""Converts a LangChain FAISS folder (index.faiss and index.pkl) without running what its pickle says.

``index.pkl`` is a pickled pair: an in-memory docstore (id to document) and a dict of FAISS row to id.
Unpickling can call anything that it names, so only the few classes below are admitted, and each stands for
an inert class of our own: no code of LangChain's, or of anyone else's, runs.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.rag.errors import RagError

FAISS_FILE, PICKLE_FILE = "index.faiss", "index.pkl"
SAME = 0.9  # cosine below which a stored vector is not of this embedder; rounding leaves 0.999
_PROBES = 3


class _Inert:
    """Takes any state, runs nothing: what LangChain's objects were, as plain attributes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """A plain ``__dict__``, or pydantic's (v1 and v2): ``{"__dict__": {…}, …}``."""
        if isinstance(state, dict) and isinstance(state.get("__dict__"), dict):
            state = state["__dict__"]
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"a state of type {type(state).__name__}")
        self.fields = state


class _Docstore(_Inert):
    pass


class _Document(_Inert):
    pass


_ADMITTED: dict[tuple[str, str], type] = {
    **{
        (f"{package}.docstore.in_memory", "InMemoryDocstore"): _Docstore
        for package in ("langchain", "langchain_community")
    },
    ("langchain_core.documents.base", "Document"): _Document,
    ("langchain.schema.document", "Document"): _Document,
    ("langchain.schema", "Document"): _Document,
    ("langchain.docstore.document", "Document"): _Document,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise RagError(f"it names {module}.{name}, which a LangChain index has no need of") from None

    def persistent_load(self, pid: Any) -> Any:
        raise RagError("it refers to objects outside of itself")


def read_pickle(folder: Path) -> list[dict[str, Any]]:
    """The documents of the folder's index.pkl, a row of index.faiss each, in order: ``{"text", "metadata"}``.

    Raises RagError for a folder that is not LangChain's, and for a pickle that names any other class."""
    path = folder / PICKLE_FILE
    for file in (folder / FAISS_FILE, path):
        if not file.is_file():
            raise RagError(f"{folder} is not a LangChain FAISS folder: it has no {file.name}")
    try:
        loaded = _Unpickler(io.BytesIO(path.read_bytes())).load()
        store, ids = loaded
        if not isinstance(store, _Docstore) or not isinstance(ids, dict):
            raise TypeError("not a docstore with a dict of ids")
        documents = _mapping(store.fields["_dict"])
        if sorted(ids) != list(range(len(ids))):
            raise ValueError("its rows are not numbered from 0")
        return [_document(documents[ids[row]]) for row in range(len(ids))]
    except RagError as error:
        raise RagError(f"{path} is refused: {error}") from error
    except OSError as error:
        raise RagError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RagError(f"{path} is not the index.pkl of a LangChain FAISS folder: {reason}") from error


def convert(folder: Path, documents: Sequence[Mapping[str, Any]], embedder: Any) -> Any:
    """An `index.Index` of the folder's vectors, scaled to length 1, with these documents.

    ``embedder`` must be the one that made the vectors: some texts are embedded again and compared. Ids are
    ``SOURCE#n``, numbered in each source. Raises RagError."""
    import faiss

    from backends.rag import index
    from backends.rag.embed import unit

    path = folder / FAISS_FILE
    try:
        stored = faiss.read_index(str(path))
        rows = stored.reconstruct_n(0, stored.ntotal)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise RagError(f"{path} cannot be read as a FAISS index with its vectors: {reason}") from error
    if len(rows) != len(documents):
        raise RagError(
            f"{folder} does not fit together: {len(rows)} vectors in {FAISS_FILE}, "
            f"{len(documents)} documents in {PICKLE_FILE}"
        )
    if not len(rows):
        raise RagError(f"{folder} holds no documents")
    vectors = unit(rows)
    _compare(folder, vectors, documents, embedder)
    numbers: dict[str, int] = {}
    entries = []
    digest = hashlib.sha256()
    for document in documents:
        source = str(document["metadata"].get("source") or folder.name)
        number = numbers[source] = numbers.get(source, -1) + 1
        entries.append(
            index.Entry(f"{source}#{number}", document["text"], {"metadata": document["metadata"]})
        )
        digest.update(f"{source}\0{document['text']}\0".encode())
    return index.assemble(entries, vectors, embedder, digest.hexdigest(), None)


def _compare(folder: Path, vectors: Any, documents: Sequence[Mapping[str, Any]], embedder: Any) -> None:
    """Raises RagError unless some texts, embedded now, point where their stored vectors do."""
    fix = "pass --embedder with the model it was built with"
    if vectors.shape[1] != embedder.dimension:
        raise RagError(
            f"{folder} holds vectors of {vectors.shape[1]} numbers and {embedder.name} makes "
            f"{embedder.dimension}: {fix}"
        )
    probes = sorted({int(n) for n in np.linspace(0, len(documents) - 1, _PROBES)})
    again = embedder.encode([documents[n]["text"] for n in probes])
    closest = float(np.median((vectors[probes] * again).sum(axis=1)))
    if closest < SAME:
        raise RagError(
            f"the vectors in {folder} are not {embedder.name}'s (cosine {closest:.2f}, 1 expected): {fix}"
        )


def _document(document: Any) -> dict[str, Any]:
    if not isinstance(document, _Document):
        raise TypeError(f"a {type(document).__name__} where a document should be")
    text = document.fields["page_content"]
    if not isinstance(text, str):
        raise TypeError("a document without text")
    return {"text": text, "metadata": _plain(_mapping(document.fields.get("metadata") or {}))}


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} where a dict should be")
    return value


def _plain(value: Any) -> Any:
    """What JSON can hold; anything else as its text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
