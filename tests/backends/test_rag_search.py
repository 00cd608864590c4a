"""Retrieval: the sample's questions find their chunks; indexes round-trip, and odd ones are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from backends.corpus import sample
from backends.corpus.chunk import Chunk, Document, chunks
from backends.models.tiny.tiny import ensure_embedder
from backends.rag.errors import RagError
from tests.deferred import Deferred

if TYPE_CHECKING:
    from backends.rag.embed import Embedder
    from backends.rag.retriever import Retriever

embed = Deferred("backends.rag.embed")
index = Deferred("backends.rag.index")
retrieval = Deferred("backends.rag.retriever")
static_embedder = Deferred("backends.models.tiny.static_embedder")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return embed.Embedder.load("tiny")


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    return retrieval.Retriever.open("sample")


@pytest.fixture
def small(tmp_path: Path, embedder: Embedder) -> Path:
    """An index of three short documents."""
    documents = [Document(n, f"The {n} is open from 8 to 17.") for n in ("library", "canteen", "gym")]
    index.save(index.build(documents, embedder), tmp_path / "small")
    return tmp_path / "small"


def _recall(found: list[list[Chunk]]) -> float:
    questions = sample.questions()
    right = [any(q.answered_by(c) for c in row) for q, row in zip(questions, found, strict=True)]
    return sum(right) / len(right)


def test_recall(retriever: Retriever, capsys: pytest.CaptureFixture[str]) -> None:
    by_id = {c.id: c for c in chunks(sample.documents())}
    hits = retriever.search([q.text for q in sample.questions()], 4)
    recall = {k: _recall([[by_id[h.chunk_id] for h in row[:k]] for row in hits]) for k in (1, 2, 4)}
    with capsys.disabled():
        for k, value in recall.items():
            print(f"\nrecall@{k} = {value:.3f}", end="")
    assert recall[4] >= 0.9
    for row in hits:
        assert len(row) == 4
        assert [h.score for h in row] == sorted((h.score for h in row), reverse=True)
        assert all(-1.001 <= h.score <= 1.001 and h.text == by_id[h.chunk_id].text for h in row)


def test_recall_in_each_language(retriever: Retriever) -> None:
    by_id = {c.id: c for c in chunks(sample.documents())}
    for doc in ("handbook.ko", "handbook.en"):
        asked = [q for q in sample.questions() if q.doc == doc]
        hits = retriever.search([q.text for q in asked], 4)
        right = [
            any(q.answered_by(by_id[h.chunk_id]) for h in row) for q, row in zip(asked, hits, strict=True)
        ]
        assert sum(right) / len(right) >= 0.9, doc


def test_embedder_is_built_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        static_embedder.build_embedder(tmp_path / name, lambda label, done: None)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) >= 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_vectors(embedder: Embedder) -> None:
    texts = [f"text {n} 문장" for n in range(70)] + [""]
    done: list[int] = []
    rows = embedder.encode(texts, done.append)
    assert done == [32, 64, 71]
    assert rows.shape == (71, embedder.dimension)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows[:-1], axis=1), 1, atol=1e-6)
    assert not rows[-1].any()
    assert embedder.encode([]).shape == (0, embedder.dimension)
    one, other = (embedder.count([text]) for text in texts[:2])
    assert min(one, other) > 0
    assert embedder.count(texts[:2]) == one + other


def test_digest_follows_the_weights_not_the_place(tmp_path: Path, embedder: Embedder) -> None:
    source = ensure_embedder()
    for file in source.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(source)).parent.mkdir(exist_ok=True)
            (tmp_path / file.relative_to(source)).write_bytes(file.read_bytes())
    moved = embed.Embedder.load(str(tmp_path))
    assert moved.digest == embedder.digest
    assert moved.name == str(tmp_path)


def test_threads_share_a_retriever(retriever: Retriever) -> None:
    texts = [q.text for q in sample.questions()]
    alone = [retriever.search([t], 3) for t in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda t: retriever.search([t], 3), texts * 4))
    assert together == alone * 4


def test_save_and_load(small: Path, embedder: Embedder) -> None:
    assert sorted(p.name for p in small.iterdir()) == ["documents.jsonl", "index.faiss", "meta.json"]
    assert [p.name for p in small.parent.iterdir()] == ["small"], "nothing temporary stays"
    meta = json.loads((small / "meta.json").read_text())
    assert meta["schema"] == 1
    assert (meta["embedder"], meta["embedder_digest"]) == ("tiny", embedder.digest)
    assert (meta["dimension"], meta["chunks"]) == (embedder.dimension, 3)
    assert meta["chunking"] == {"size": 150, "overlap": 50}
    opened = retrieval.Retriever.open(small)
    hit = opened.search(["When is the gym open?"], 9)[0]
    assert hit[0].chunk_id == "gym#0"
    assert len(hit) == 3
    entry = opened.index.entries[2]
    assert entry.extra == {"doc": "gym", "start": 0, "end": len(entry.text)}
    with pytest.raises(RagError, match="top-k must be at least 1"):
        opened.search(["x"], 0)
    assert opened.search([], 1) == []


def test_build_is_repeatable_and_replaces(small: Path, embedder: Embedder) -> None:
    before = {p.name: p.read_bytes() for p in small.iterdir()}
    loaded = index.load(small)
    index.save(loaded, small)
    assert {p.name: p.read_bytes() for p in small.iterdir()} == before
    index.save(index.build([Document("new", "new text")], embedder), small)
    assert [e.id for e in index.load(small).entries] == ["new#0"]
    other = small.parent / "other"
    other.mkdir()
    (other / "thesis.doc").touch()
    with pytest.raises(RagError, match="holds something else than an rvtop index"):
        index.save(loaded, other)
    assert (other / "thesis.doc").exists()


def _meta(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _drop_a_document(folder: Path) -> None:
    """With its checksum put right, so that only the counts tell."""
    path = folder / "documents.jsonl"
    path.write_text("".join(path.read_text().splitlines(True)[:-1]))
    files = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("index.faiss", path.name)}
    _meta(files=files)(folder)


def _flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "documents damaged": (_flip("documents.jsonl"), "documents.jsonl does not match its checksum"),
    "vectors damaged": (_flip("index.faiss"), "index.faiss does not match its checksum"),
    "vectors gone": (lambda f: (f / "index.faiss").unlink(), "index.faiss is missing"),
    "counts": (_drop_a_document, "3 vectors, 2 texts, 3 in meta.json"),
    "count in meta": (_meta(chunks=4), "3 vectors, 3 texts, 4 in meta.json"),
    "dimension": (_meta(dimension=768), "vectors of 384 numbers, 768 in meta.json"),
    "schema": (_meta(schema=9), "schema 9 and this rvtop reads 1"),
    "kind": (_meta(kind="cake"), "it is a 'cake'"),
    "embedder": (_meta(embedder_digest="0" * 64), "vectors of another model (tiny) than tiny"),
    "no meta": (lambda f: (f / "meta.json").unlink(), "is not an rvtop index: it has no meta.json"),
    "meta torn": (lambda f: (f / "meta.json").write_text('{"kind":'), "meta.json is not the meta.json of"),
    "meta a list": (lambda f: (f / "meta.json").write_text("[]"), "meta.json is not the meta.json of"),
    "meta without a key": (lambda f: (f / "meta.json").write_text('{"kind": "rvtop-index"}'), "'schema'"),
    "name not a text": (_meta(embedder=3), "a name or digest is not a text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, small: Path) -> None:
    change, words = REFUSED[case]
    change(small)
    with pytest.raises(RagError) as caught:
        retrieval.Retriever.open(small)
    assert words in str(caught.value)
    assert str(small) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refused_places(tmp_path: Path) -> None:
    with pytest.raises(RagError, match="does not exist: build an index with `rvtop index build"):
        retrieval.Retriever.open(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(RagError, match="is a file, not an index"):
        retrieval.Retriever.open(tmp_path / "file")
    (tmp_path / "index.faiss").touch()
    (tmp_path / "index.pkl").touch()
    with pytest.raises(RagError, match=f"`rvtop index import {tmp_path} --out NEWDIR`"):
        retrieval.Retriever.open(tmp_path)


def test_other_embedder(small: Path) -> None:
    loaded = index.load(small)
    wide = index.Meta(**{**loaded.meta.__dict__, "dimension": 768, "embedder": "ko-sroberta"})

    class Other:
        name, digest, dimension = "tiny", "x", 384

    with pytest.raises(
        RagError, match=r"vectors of 768 numbers, and tiny makes 384: pass --embedder ko-sroberta"
    ):
        index.check_embedder(wide, Other(), small)  # type: ignore[arg-type]
    with pytest.raises(RagError, match="there is no embedder"):
        retrieval.Retriever.open(small, embedder="/absent/model")
