"""Converting LangChain's folders: what they hold comes over, and no code in their pickle ever runs."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from backends.rag.errors import RagError
from backends.rag.import_langchain import convert, read_pickle
from tests.deferred import Deferred

if TYPE_CHECKING:
    from backends.rag.embed import Embedder

faiss = Deferred("faiss")
embed = Deferred("backends.rag.embed")
index = Deferred("backends.rag.index")
retriever = Deferred("backends.rag.retriever")

TEXTS = ["도서관은 여덟 시에 연다.", "The gym costs 45,000 won.", "The wind tunnel is fast."]


@contextmanager
def _module_with(path: str, name: str, **methods: Any) -> Iterator[type]:
    """A class that pickles under ``path.name``, as if LangChain were installed."""
    added = []
    parts = path.split(".")
    for n in range(1, len(parts) + 1):
        if ".".join(parts[:n]) not in sys.modules:
            added.append(".".join(parts[:n]))
            sys.modules[added[-1]] = types.ModuleType(added[-1])
    made = type(name, (), {"__module__": path, "__qualname__": name, **methods})
    setattr(sys.modules[path], name, made)
    try:
        yield made
    finally:
        for module in added:
            del sys.modules[module]


def _pydantic_v2(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "__dict__": fields,
        "__pydantic_extra__": None,
        "__pydantic_fields_set__": set(fields),
        "__pydantic_private__": None,
    }


def _pydantic_v1(fields: dict[str, Any]) -> dict[str, Any]:
    return {"__dict__": fields, "__fields_set__": set(fields), "__private_attribute_values__": {}}


STATES = {"v1": _pydantic_v1, "v2": _pydantic_v2, "plain": lambda fields: fields}
PATHS = {
    "community": ("langchain_community.docstore.in_memory", "langchain_core.documents.base", "v2"),
    "core, pydantic 1": ("langchain_community.docstore.in_memory", "langchain_core.documents.base", "v1"),
    "old": ("langchain.docstore.in_memory", "langchain.schema.document", "v1"),
    "oldest": ("langchain.docstore.in_memory", "langchain.docstore.document", "plain"),
}


def _pickle(store_path: str, document_path: str, state: str, metadata: Any = None, ids: Any = None) -> bytes:
    def getstate(self: Any) -> Any:
        return STATES[state](self.fields)

    with (
        _module_with(store_path, "InMemoryDocstore") as Store,
        _module_with(document_path, "Document", __getstate__=getstate) as Document,
    ):
        store = Store()
        store._dict = {}
        for n, text in enumerate(TEXTS):
            document = store._dict[f"uuid-{n}"] = Document()
            document.fields = {
                "page_content": text,
                "metadata": metadata or {"source": "a.txt"},
                "type": "Document",
            }
        return pickle.dumps((store, ids or {n: f"uuid-{n}" for n in range(len(TEXTS))}))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return embed.Embedder.load("tiny")


def _folder(where: Path, pickled: bytes, vectors: np.ndarray) -> Path:
    flat = faiss.IndexFlatL2(vectors.shape[1])
    flat.add(vectors)
    faiss.write_index(flat, str(where / "index.faiss"))
    (where / "index.pkl").write_bytes(pickled)
    return where


@pytest.mark.parametrize("kind", PATHS)
def test_imports(kind: str, tmp_path: Path, embedder: Embedder) -> None:
    # Lengths other than 1, as models without normalisation leave them.
    vectors = embedder.encode(TEXTS) * np.array([[3.0], [0.5], [1.0]], np.float32)
    folder = _folder(tmp_path, _pickle(*PATHS[kind]), vectors)
    documents = read_pickle(folder)
    assert [d["text"] for d in documents] == TEXTS
    index.save(convert(folder, documents, embedder), tmp_path / "new")
    opened = retriever.Retriever.open(tmp_path / "new")
    assert opened.index.meta.chunking is None
    assert [e.id for e in opened.index.entries] == ["a.txt#0", "a.txt#1", "a.txt#2"]
    assert opened.index.entries[0].extra == {"metadata": {"source": "a.txt"}}
    hit = opened.search([TEXTS[1]], 1)[0][0]
    assert hit.text == TEXTS[1]
    assert hit.score == pytest.approx(1, abs=1e-5)


class _Evil:
    def __init__(self, target: Any, *args: Any) -> None:
        self.target, self.args = target, args

    def __reduce__(self) -> Any:
        return self.target, self.args


def _refusal(folder: Path, pickled: bytes) -> str:
    (folder / "index.faiss").touch()
    (folder / "index.pkl").write_bytes(pickled)
    with pytest.raises(RagError) as caught:
        read_pickle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_runs_nothing(protocol: int, tmp_path: Path) -> None:
    import os

    mark = tmp_path / "ran"
    evil = pickle.dumps((_Evil(os.system, f"touch {mark}"), {}), protocol=protocol)
    assert "system, which a LangChain index has no need of" in _refusal(tmp_path, evil)
    for target, args in ((eval, ("1",)), (getattr, ("", "join")), (type, ("T", (), {}))):
        assert f"names builtins.{target.__name__}" in _refusal(tmp_path, pickle.dumps(_Evil(target, *args)))
    assert not mark.exists()


def test_an_admitted_class_is_no_way_in(tmp_path: Path) -> None:
    """The class itself can be reached, its state set, its constructor called: all of it inert."""
    docstore = b"clangchain_community.docstore.in_memory\nInMemoryDocstore\n"
    for code in (
        docstore + b"}(S'__init__'\nS'x'\nub.",  # BUILD on the class, not on an instance
        docstore + b"(S'touch x'\ntR}S'_dict'\nS'not a dict'\nsb.",
        docstore + b"(tR.",
        b"clangchain_community.docstore.in_memory\nInMemoryDocstore.__init__\n.",
        b"clangchain_community.docstore.in_memory\nos\n.",
    ):
        assert "index.pkl is" in _refusal(tmp_path, code)
    assert read_pickle.__globals__["_Docstore"]().fields == {}


def test_foreign_values_in_metadata_are_refused_by_name(tmp_path: Path) -> None:
    import datetime

    pickled = _pickle(*PATHS["community"], metadata={"when": datetime.date(2024, 1, 1)})
    assert "names datetime.date" in _refusal(tmp_path, pickled)


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"", "is not the index.pkl of a LangChain FAISS folder"),
        (b"\x80\x04garbage", "is not the index.pkl of a LangChain FAISS folder"),
        (pickle.dumps({"a": 1}), "is not the index.pkl of a LangChain FAISS folder"),
        (pickle.dumps(({}, {})), "not a docstore with a dict of ids"),
        (_pickle(*PATHS["community"], ids={1: "uuid-0"}), "its rows are not numbered from 0"),
        (_pickle(*PATHS["community"], ids={0: "absent"}), "absent"),
        (_pickle(*PATHS["community"])[:-40], "is not the index.pkl of a LangChain FAISS folder"),
    ],
    ids=["empty", "garbage", "a dict", "no docstore", "rows", "absent id", "cut off"],
)
def test_damaged_pickles(pickled: bytes, words: str, tmp_path: Path) -> None:
    assert words in _refusal(tmp_path, pickled)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(RagError, match=r"is not a LangChain FAISS folder: it has no index\.faiss"):
        read_pickle(tmp_path / "absent")


def test_vectors_must_be_the_embedders(tmp_path: Path, embedder: Embedder) -> None:
    pickled = _pickle(*PATHS["community"])
    documents = [{"text": text, "metadata": {}} for text in TEXTS]
    other = np.random.default_rng(0).standard_normal((3, embedder.dimension)).astype(np.float32)
    with pytest.raises(RagError, match=r"are not tiny's \(cosine .*: pass --embedder"):
        convert(_folder(tmp_path, pickled, other), documents, embedder)
    with pytest.raises(RagError, match="vectors of 5 numbers and tiny makes 384: pass --embedder"):
        convert(_folder(tmp_path, pickled, other[:, :5].copy()), documents, embedder)
    with pytest.raises(RagError, match=r"2 vectors in index\.faiss, 3 documents in index\.pkl"):
        convert(_folder(tmp_path, pickled, other[:2]), documents, embedder)
    (tmp_path / "index.faiss").write_bytes(b"nonsense")
    with pytest.raises(RagError, match="cannot be read as a FAISS index"):
        convert(tmp_path, documents, embedder)
