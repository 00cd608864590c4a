"""The stages of topology graph in this process, called as Serve calls them: what they compute and tell."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.errors import UsageError
from backends.settings.graph import GraphOptions
from backends.settings.options import ModelSpec, Options
from backends.stages import analyze
from backends.stages.retrieval import Embed, Rerank, Search
from tests.backends.conformance import QUESTIONS


@pytest.fixture(autouse=True)
def replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a replica of Serve's knows of itself."""
    import ray
    from ray import serve

    identity = SimpleNamespace(unique_id="u1")
    config = SimpleNamespace(max_ongoing_requests=64)
    context = SimpleNamespace(replica_id=identity, _deployment_config=config)
    here = SimpleNamespace(get_accelerator_ids=dict, get_actor_id=lambda: "actor", get_node_id=lambda: "node")
    monkeypatch.setattr(serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: here)


def options(tiny_model: Path, index: str = "sample", **graph: Any) -> Options:
    models = (ModelSpec("tiny", str(tiny_model)),)
    none: Any = None
    return Options("graph", models, none, index=index, dtype="float32", graph=GraphOptions(**graph))


async def test_a_question_becomes_passages(tiny_model: Path) -> None:
    asked = options(tiny_model, embed_wait_s=0.1)
    embed, search, rerank = Embed(asked, 1), Search(asked, 1), Rerank(asked, 1, "handle", "handle")
    vectors = await asyncio.gather(*(embed.one(question) for question in QUESTIONS))
    told = (await embed.record_routing_stats())["row"]
    assert (told["engine"], told["state"], told["embedder"]) == ("embed-u1", "ready", "tiny")
    assert (told["items"], told["calls"]) == (len(QUESTIONS), 1)  # in one call of the model
    assert told["busy_ms"] > 0
    passages = await search.find(vectors[0], 8)
    assert len(set(passages)) == 8
    best = await rerank.best(QUESTIONS[0], passages, 2)
    assert set(best) < set(passages)
    found = (await search.record_routing_stats())["row"]
    assert (found["store"], found["how"]) == ("faiss", "exact")
    assert len(await search.find(vectors[0], found["vectors"] + 5)) == found["vectors"]
    embedded = await embed.many(QUESTIONS)
    assert np.allclose(embedded.vectors, np.stack(vectors), atol=1e-5)
    assert embedded.tokens > 0


def test_what_a_stage_can_not_open_is_bad_usage(tiny_model: Path, tmp_path: Path) -> None:
    for stage, asked, said in (
        (Embed, options(tiny_model, str(tmp_path)), "not an rvtop index"),
        (Search, options(tiny_model, str(tmp_path)), "not an rvtop index"),
        (Rerank, options(tiny_model, reranker=str(tmp_path / "none")), "--reranker"),
    ):
        with pytest.raises(UsageError, match=said):
            stage(asked, 1)


class Called:
    """A handle of Serve's to one method."""

    def __init__(self, name: str, method: Any) -> None:
        setattr(self, name, SimpleNamespace(remote=method))


async def test_two_models_judge_at_the_same_time(tiny_model: Path) -> None:
    asked = options(tiny_model)
    branches = [analyze.Judge(stage, asked.models[0], asked, 1) for stage in analyze.LABELS]
    sentiment, topic = (Called("judge", branch.judge) for branch in branches)
    prepare = Called("clean", analyze.Preprocess(1).clean)
    merge = analyze.Merge(1, prepare, sentiment, topic)
    labels = {name: list(words) for name, words in analyze.LABELS.items()}
    told = json.loads(await merge.analyze("It was\n\n late. " * 40, labels, True))
    for name, words in labels.items():
        assert set(told[name]["scores"]) == set(words)
        assert sum(told[name]["scores"].values()) == pytest.approx(1.0)
        assert told[name]["label"] == max(words, key=lambda word: told[name]["scores"][word])
    timings = told["usage"]["rvtop"]
    parts = [timings[f"{part}_ms"] for part in ("preprocess", "branches", "merge")]
    assert timings["total_ms"] == pytest.approx(sum(parts), abs=0.05)
    assert timings["branches_ms"] >= max(timings["sentiment_ms"], timings["topic_ms"]) - 0.05
    alone = await branches[0].judge("It was late. " * 40, labels["sentiment"])
    assert alone["scores"].keys() == told["sentiment"]["scores"].keys()
    bare = json.loads(await merge.analyze("good", {name: ["a", "b"] for name in labels}, False))
    assert set(bare) == {"sentiment", "topic"}
