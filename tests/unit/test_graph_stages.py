"""Topology graph without a cluster: its options, what stages reserve and get, what a question passes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from backends.api.defaults import Settings
from backends.cluster.cluster import Node
from backends.errors import ApiError, StartFailure, UsageError
from backends.graph import start
from backends.settings import graph
from backends.settings.graph import GraphOptions
from backends.settings.options import ModelSpec, Options
from backends.settings.serve import ServeOptions
from backends.stages import analyze
from backends.stages.llm import GraphRetrieval, Handles
from backends.stages.shares import stages_of, units_of
from backends.stages.split import Work, split


def flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    graph.add_arguments(parser)
    return parser.parse_args(argv)


def test_flags_become_options() -> None:
    assert graph.from_args(flags()) == GraphOptions()
    given = graph.from_args(
        flags(
            *("--stage-replicas", "embed=2, llm=3", "--vector-store", "lancedb", "--reranker", "none"),
            *("--no-analyze", "--embed-batch", "4", "--embed-batch-wait", "0"),
        )
    )
    assert given == GraphOptions({"embed": 2, "llm": 3}, None, "lancedb", "none", False, 4, 0.0)
    assert (given.first("embed"), given.first("search")) == (2, 1)
    assert graph.from_args(flags("--auto")).profile_s == 30.0
    assert graph.from_args(flags("--auto", "5")).profile_s == 5.0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--stage-replicas", "embed"), "write STAGE=N"),
        (("--stage-replicas", "embedder=2"), "embed, search, rerank, llm, preprocess"),
        (("--stage-replicas", "embed=0"), "from 1 to 32"),
        (("--stage-replicas", "llm=2,llm=3"), "once"),
        (("--stage-replicas", "rerank=2", "--reranker", "none"), "--reranker none leaves it out"),
        (("--stage-replicas", "topic=2", "--no-analyze"), "--no-analyze leaves it out"),
        (("--stage-replicas", "llm=2", "--auto"), "--auto says how many"),
        (("--auto", "0.5"), "1 or more"),
        (("--auto", "inf"), "1 or more"),
        (("--vector-store", "milvus"), "faiss, lancedb"),
        (("--embed-batch", "0"), "at least 1"),
        (("--embed-batch-wait", "-1"), "0 or more"),
    ],
)
def test_flags_that_can_not_be(argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        graph.from_args(flags(*argv))


@pytest.mark.parametrize("argv", [("--auto",), ("--no-analyze",), ("--reranker", "words")])
def test_other_topologies_have_no_stages(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"{argv[0]} is for topology graph: rsc has no stages"):
        graph.refuse_flags(flags(*argv), "rsc")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_replicas": 2}, "--num-replicas: each stage has its own"),
        ({"serve": ServeOptions(batch=2)}, "--serve-batch: it is the embedder"),
        ({"graph": GraphOptions({"search": 2})}, "--stage-replicas search: without an index"),
    ],
)
async def test_what_a_graph_does_not_take_is_told_before_anything_starts(
    given: dict[str, Any], said: str
) -> None:
    none: Any = None
    with pytest.raises(UsageError, match=said):
        await start(Options("graph", (ModelSpec("tiny", "tiny"),), none, **given), none)


def node(cpus: float, gpus: float = 0.0) -> Node:
    return Node("id", "10.0.0.1", "n1", cpus, gpus, cpus, gpus, None, True, None)


def test_which_stages_there_are() -> None:
    assert stages_of(GraphOptions(), index=True) == [*graph.RETRIEVAL, *graph.ANALYSIS]
    assert stages_of(GraphOptions(reranker="none", analyze=False), index=True) == ["embed", "search"]
    assert stages_of(GraphOptions(), index=False) == list(graph.ANALYSIS)


@pytest.mark.parametrize(
    ("nodes", "size", "total", "kind"),
    [
        ([node(2)], 0.1666, 12, "core"),  # six that compute, twice
        ([node(16)], 1.0, 16, "core"),
        ([node(8), node(8)], 1.0, 16, "core"),
        ([node(7), node(4.5)], 0.5, 23, "core"),
        ([node(16, 8)], 0.5, 16, "GPU"),
        ([node(64, 16)], 1.0, 16, "GPU"),
    ],
)
def test_each_stage_can_be_doubled(nodes: Sequence[Node], size: float, total: int, kind: str) -> None:
    stages = stages_of(GraphOptions(), index=True)
    units = units_of(GraphOptions(), stages, 1, nodes, None)
    assert (units.size, units.total, units.kind) == (size, total, kind)
    reserved = [units.of(stage) for stage in (*stages, "llm")]
    assert sum(share.num_cpus for share in reserved) <= sum(one.cpus for one in nodes) / 2
    assert sum(share.num_gpus for share in reserved) <= sum(one.gpus for one in nodes) / 2
    assert {share.num_cpus for share in reserved if share.model in ("preprocess", "merge")} == {0.0}


@pytest.mark.parametrize("free", [0.001, 0.00005])
def test_next_to_nothing_free_is_one_line(free: float) -> None:
    with pytest.raises(StartFailure, match=f"{free:g} of the cluster is free, too little for 12 replicas"):
        units_of(GraphOptions(), stages_of(GraphOptions(), index=True), 1, [node(free)], None)
    least = units_of(GraphOptions(), stages_of(GraphOptions(), index=True), 1, [node(0.0012)], None)
    assert (least.size, least.total) == (0.0001, 12)


def test_of_several_kinds_of_accelerators_one_is_shared() -> None:
    nodes = [replace(node(64, 8), resource="TPU"), node(64, 16)]
    units = units_of(GraphOptions(), stages_of(GraphOptions(), index=True), 1, nodes, None)
    assert (units.kind, units.bins, units.share.resource) == ("GPU", (0, 16), "GPU")


def test_as_many_replicas_fit_on_a_node_as_its_accelerators_have_parts() -> None:
    nodes = [node(64), node(8, 8)]
    units = units_of(GraphOptions(), stages_of(GraphOptions(), index=True), 1, nodes, None)
    assert (units.bins, units.share.num_cpus) == ((0, 16), 0.5)


def test_replicas_asked_for_make_units_smaller() -> None:
    options = GraphOptions({"llm": 12}, analyze=False)
    units = units_of(options, stages_of(options, index=True), 1, [node(10)], 1)
    assert units.total >= 3 + 12
    assert units.share.threads == 1


def test_the_split_follows_the_work() -> None:
    """The bottleneck gets most, in proportion; nobody gets none; all of it is told with its reason."""
    stages = stages_of(GraphOptions(analyze=False), index=True)
    units = units_of(GraphOptions(analyze=False), stages, 1, [node(16)], None)
    work = {
        "embed": Work(20.0, 50),
        "search": Work(1.0, 50),
        "rerank": Work(60.0, 50),
        "llm": Work(319.0, 50),
    }
    made = split(work, 4.0, units, {"llm": 1})
    assert sum(made.replicas.values()) == 16
    assert made.replicas["llm"] >= 10
    assert made.replicas["embed"] == made.replicas["search"] == 1
    # Nothing is slower than what an equal split would have at its slowest stage.
    assert max(work[stage].ms / n for stage, n in made.replicas.items()) < 319.0 / 4
    told = json.loads(json.dumps(made.told, allow_nan=False))
    assert [row["model"] for row in told["models"]] == list(work)
    assert "319 ms of computing a request (80 % of all stages', measured over 50)" in made.reasons["llm"]


def test_few_cores_get_no_replicas_that_could_not_run() -> None:
    stages = stages_of(GraphOptions(), index=True)
    units = units_of(GraphOptions(), stages, 1, [node(2)], None)
    work = dict.fromkeys(("embed", "search", "rerank", "sentiment", "topic"), Work(1.0, 9))
    made = split({**work, "llm": Work(100.0, 9), "merge": Work(0.1, 9)}, 2.0, units, {"llm": 1})
    assert made.replicas == {**dict.fromkeys(work, 1), "llm": 2}
    assert "share cores" in made.reasons["llm"]


def test_an_llm_of_several_models_takes_a_unit_of_each() -> None:
    options = GraphOptions(analyze=False, reranker="none")
    units = units_of(options, stages_of(options, index=True), 2, [node(8)], None)
    work = {"embed": Work(1.0, 9), "search": Work(1.0, 9), "llm": Work(100.0, 9)}
    assert split(work, 2.0, units, {"llm": 2}).replicas["llm"] == 3  # six units, and two for the others


class Call:
    """A method of a stage as its handle has it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, []  # type: ignore[var-annotated]

    async def remote(self, *args: Any) -> Any:
        self.asked.append(args)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class StageHandle:
    def __init__(self, **methods: Any) -> None:
        for name, answer in methods.items():
            setattr(self, name, Call(answer))


async def test_a_question_passes_the_stages_and_each_is_timed() -> None:
    embed, search = StageHandle(one="vector"), StageHandle(find=["a", "b", "c", "d"])
    rerank = StageHandle(best=["d", "a"])
    found = GraphRetrieval(Handles(embed, search, rerank), "tiny")
    took: dict[str, float | None] = {}
    (system, user) = await found.expand([{"role": "user", "content": "why?"}], 2, took)
    assert user["content"].index("d") < user["content"].rindex("a")
    assert system["role"] == "system"
    assert search.find.asked == [("vector", 8)]  # type: ignore[attr-defined]
    assert rerank.best.asked == [("why?", ["a", "b", "c", "d"], 2)]  # type: ignore[attr-defined]
    assert set(took) == {"embed_ms", "search_ms", "rerank_ms"}
    assert {stage: passed[0] for stage, passed in found.passed.items()} == dict.fromkeys(graph.RETRIEVAL, 1)
    without = GraphRetrieval(Handles(embed, search, None), "tiny")
    assert await without.find("why?", 4) == ["a", "b", "c", "d"]
    assert search.find.asked[-1] == ("vector", 4)  # type: ignore[attr-defined]


async def test_a_stage_that_fails_says_so() -> None:
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError

    for error, status in (
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), 429),
        (RayActorError(), 503),
    ):
        found = GraphRetrieval(Handles(StageHandle(one=error), None, None), "tiny")
        with pytest.raises(ApiError, match="tage embed") as caught:
            await found.find("why?", 1)
        assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": " "}, "text"),
        ({"text": "x" * 100_001}, "text"),
        ({"text": "x", "labels": []}, None),
        ({"text": "x", "labels": {"mood": ["a", "b"]}}, "labels"),
        ({"text": "x", "labels": {"topic": ["a"]}}, "labels"),
        ({"text": "x", "labels": {"topic": ["a", "a"]}}, "labels"),
        ({"text": "x", "labels": {"topic": ["a", 7]}}, "labels"),
        ({"text": "x", "labels": {"topic": ["a", "b" * 101]}}, "labels"),
    ],
)
def test_what_analyze_refuses(body: dict[str, Any], param: str | None) -> None:
    if body.get("labels") == []:  # as if it were not there
        assert analyze.checked(json.dumps(body).encode())[1]["topic"]
        return
    with pytest.raises(ApiError) as caught:
        analyze.checked(json.dumps(body).encode())
    assert (caught.value.status, caught.value.body()["error"]["param"]) == (400, param)


def test_what_analyze_takes() -> None:
    body = {"text": "good", "labels": {"topic": ["a", "b"]}, "rvtop": {"timings": True}}
    text, labels, timings = analyze.checked(json.dumps(body).encode())
    assert (text, labels["topic"], timings) == ("good", ["a", "b"], True)
    assert labels["sentiment"] == list(analyze.LABELS["sentiment"])
    assert analyze.cleaned("  a\u0301\x1b[31m\n b\u200b ") == "\u00e1 [31m b"


class Letters:
    """A token a letter, behind one that begins a text."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + [ord(letter) % 250 for letter in text]


def test_no_label_takes_a_branch_past_its_model_s_context() -> None:
    torch = pytest.importorskip("torch")
    seen: list[list[int]] = []

    def model(ids: Any) -> Any:
        seen.append(ids[0].tolist())
        return SimpleNamespace(logits=torch.zeros(*ids.shape, 250))

    judge = object.__new__(analyze.Judge)
    judge._model, judge._tokenizer, judge._ask = model, Letters(), "Topic:"
    judge._longest, judge.device = 128, "cpu"
    told = judge._judge("x" * 500, ["a", "b" * 100])
    assert sum(told["scores"].values()) == pytest.approx(1.0)
    assert max(map(len, seen)) == 128
    assert {ids.index(1) for ids in seen} == {0} == {ids.count(1) - 1 for ids in seen}
    with pytest.raises(ValueError, match="holds no text"):
        judge._judge("x", ["a", "b" * 130])


class Stages:
    """A group whose stages can be scaled; it keeps what it was asked."""

    def __init__(self) -> None:
        self.counts = {"embed": 1, "llm": 1}

    async def scale(self, counts: Any) -> dict[str, int]:
        self.counts |= counts
        return self.counts

    async def configure(self, defaults: Any) -> None:
        self.defaults = defaults


async def test_replicas_are_set_beside_defaults() -> None:
    stages, settings = Stages(), Settings("graph")
    now = await settings.change(b'{"embed.replicas": 2, "max_tokens": 7}', [stages])
    assert now["embed.replicas"] == 2
    assert now["max_tokens"] == stages.defaults.max_tokens == 7
    del stages.defaults
    await settings.change(b'{"llm.replicas": 3}', [stages])
    assert stages.counts == {"embed": 2, "llm": 3}
    assert not hasattr(stages, "defaults")  # no replica has to take what has not changed
    for body, said in ((b'{"embed.replicas": 0}', "embed.replicas"), (b'{"embed.replicas": "x"}', "integer")):
        with pytest.raises(ApiError, match=said):
            await settings.change(body, [stages])
    with pytest.raises(ApiError, match="Topology rsc has no stages"):
        await Settings("rsc").change(b'{"embed.replicas": 2}', [object()])
