"""What searches vectors, FAISS and LanceDB, against the exact answer; and what orders passages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.rag import cells, rerank, stores
from backends.rag.embed import Vectors, unit
from backends.rag.errors import RagError
from backends.rag.index import assemble
from backends.rag.retriever import embedder_of

STORES = [
    "faiss",
    pytest.param("lancedb", marks=pytest.mark.skipif(find_spec("lancedb") is None, reason="no lancedb")),
]
DIMENSION, TOP_K = 64, 10


def clustered(size: int, seed: int = 1) -> tuple[Vectors, Vectors]:
    """Vectors around centres, as embeddings of texts lie, and queries from the same place."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(4, size // 200), DIMENSION))

    def drawn(count: int) -> Vectors:
        near = centres[random.integers(0, len(centres), count)]
        return unit(near + 0.6 * random.normal(size=(count, DIMENSION)))

    return drawn(size), drawn(200)


def index_of(vectors: Vectors) -> Any:
    embedder: Any = SimpleNamespace(name="made", digest="0" * 64)
    return assemble([object()] * len(vectors), vectors, embedder, "", None)  # type: ignore[list-item]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVTOP_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", STORES)
def test_few_vectors_are_searched_exactly(name: str) -> None:
    vectors, queries = clustered(500)
    store = stores.open_store(name, index_of(vectors))
    assert (store.name, store.size, store.dimension, store.how) == (name, 500, DIMENSION, "exact")
    scores, rows = store.search(queries, TOP_K)
    assert cells.recall(rows, cells.exact(vectors, queries, TOP_K)) == 1.0
    assert np.allclose(scores[0], vectors[rows[0]] @ queries[0], atol=1e-5)
    scores, rows = store.search(queries[:1], 600)
    assert (rows[0, :500] >= 0).all()
    assert (rows[0, 500:] == -1).all()


@pytest.mark.skipif(find_spec("lancedb") is None, reason="no lancedb")
@pytest.mark.parametrize("facts", ["", "[]", "{}", '{"size": null, "dimension": 64}'])
def test_a_damaged_folder_is_said_in_one_line(facts: str, tmp_path: Path) -> None:
    from backends.rag.lance_store import LanceStore

    (tmp_path / "facts.json").write_text(facts)
    with pytest.raises(RagError, match=r"is damaged: .*; remove that folder"):
        LanceStore(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", STORES)
def test_a_hundred_thousand_are_found_with_little_loss(name: str) -> None:
    vectors, queries = clustered(100_000)
    store = stores.open_store(name, index_of(vectors))
    assert "cells" in store.how
    _, rows = store.search(queries, TOP_K)
    found = cells.recall(rows, cells.exact(vectors, queries, TOP_K))
    print(f"{name}: {store.how}, recall {found:.4f}")
    assert found >= 0.95


def test_probes_are_doubled_until_enough_is_found() -> None:
    vectors, _ = clustered(300)
    tried: list[int] = []

    def search(queries: Vectors, top_k: int, probes: int) -> cells.Rows:
        tried.append(probes)
        rows = cells.exact(vectors, queries, top_k)
        rows[:, probes:] = -1  # finds as many as it looks into cells
        return rows

    assert cells.probes_for(vectors, 64, search) == 16
    assert tried == [1, 2, 4, 8, 16]
    assert cells.probes_for(vectors, 6, search) == 6


def test_a_store_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = clustered(20)
    with pytest.raises(RagError, match="choose faiss or lancedb"):
        stores.open_store("milvus", index_of(vectors))
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    monkeypatch.delitem(__import__("sys").modules, "backends.rag.lance_store", raising=False)
    with pytest.raises(RagError, match=r"pip install 'rvtop\[lance\]'"):
        stores.open_store("lancedb", index_of(vectors))


PASSAGES = [
    "The office opens at nine.",
    "Parental leave lasts six months and is paid in full.",
    "Leave is asked for in the portal.",
    "휴가는 일 년에 스무 날입니다.",
]


def test_rare_words_of_the_question_tell_passages_apart() -> None:
    words = rerank.open_reranker("words")
    assert rerank.best(words, "How long is parental leave?", PASSAGES, 2) == [1, 2]
    assert rerank.best(words, "휴가가 며칠입니까?", PASSAGES, 1) == [3]
    assert rerank.best(words, "zzz", PASSAGES, 3) == [0, 1, 2]  # equals stay as they were found
    assert rerank.best(words, "leave", [], 3) == []


def test_a_cross_encoder_orders_by_its_own_scores(tmp_path: Path) -> None:
    """One made here, with random weights: what counts is that each pair is read and its score used."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = sorted({word for text in (*PASSAGES, "leave long") for word in text.split()})
    known = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    model = rerank.open_reranker(str(tmp_path))
    scores = model.scores("leave long", PASSAGES)
    assert len(set(scores)) == len(PASSAGES)
    assert rerank.best(model, "leave long", PASSAGES, 4) == sorted(range(4), key=lambda n: -scores[n])
    assert model.scores("leave long", []) == []
    with pytest.raises(RagError, match="--reranker"):
        rerank.open_reranker(str(tmp_path / "none"))


def test_the_embedder_of_an_index_without_its_vectors(tmp_path: Path) -> None:
    assert embedder_of("sample") == "tiny"
    assert embedder_of("sample", "other") == embedder_of(tmp_path, "other") == "other"
    with pytest.raises(RagError, match="not an rvtop index"):
        embedder_of(tmp_path)
