"""How many GPUs an engine of vLLM reserves: those of its tensor parallel times those of its pipeline."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.cluster.cluster import Node
from backends.cluster.vllm_shares import shares_of
from backends.errors import UsageError
from backends.settings import vllm
from backends.settings.options import Options
from backends.settings.vllm import VllmOptions, engine_argv
from backends.vllm import devices_of, this_machine


def parsed(*argv: str) -> VllmOptions:
    parser = argparse.ArgumentParser()
    vllm.add_arguments(parser)
    return vllm.from_args(parser.parse_args(argv), {})


def options(asked: VllmOptions, models: int = 1, replicas: int | None = None) -> Options:
    named = tuple(SimpleNamespace(name=f"m{number}") for number in range(models))
    given: Any = SimpleNamespace(vllm=asked, models=named, threads=None, num_replicas=replicas)
    return cast("Options", given)


def nodes(*gpus: int) -> list[Node]:
    return [
        Node(f"n{number}", "10.0.0.1", "host", 16.0, count, 16.0, count, "H200", number == 0, None)
        for number, count in enumerate(gpus)
    ]


def test_an_engine_takes_both_together_of_one_node() -> None:
    both = parsed("--tensor-parallel", "2", "--pipeline-parallel", "2")
    assert both.workers == 4
    assert [share.num_gpus for share in shares_of(options(both), nodes(8, 6))] == [4.0] * 3
    alone = shares_of(options(parsed("--pipeline-parallel", "2")), nodes(2, 2))
    assert [share.num_gpus for share in alone] == [2.0, 2.0]
    gpus = ("0", "1", "2", "3")
    found = shares_of(options(parsed("--pipeline-parallel", "2")), [this_machine(gpus)])
    assert devices_of(found, gpus) == [("0", "1"), ("2", "3")]


@pytest.mark.parametrize(
    ("argv", "gpus", "models", "said"),
    [
        (
            ("--tensor-parallel", "2", "--pipeline-parallel", "2"),
            (3, 2),
            1,
            "--tensor-parallel 2 --pipeline-parallel 2: an engine's 4 GPUs must be of one node, and 3 are "
            "free on the best",
        ),
        (
            ("--engine-arg", "pipeline_parallel_size=4"),
            (2,),
            1,
            "--pipeline-parallel 4: an engine's 4 GPUs must be of one node, and 2 are free on the best",
        ),
        (
            ("--pipeline-parallel", "2"),
            (2,),
            2,
            "--pipeline-parallel 2: 2 engines need 2 GPUs each",
        ),
    ],
)
def test_too_few_gpus_are_one_line(
    argv: tuple[str, ...], gpus: tuple[int, ...], models: int, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        shares_of(options(parsed(*argv), models), nodes(*gpus))
    assert str(refused.value) == said


@given(
    tensor=st.integers(1, 4),
    pipeline=st.integers(1, 4),
    gpus=st.lists(st.integers(0, 16), min_size=1, max_size=4),
    models=st.integers(1, 3),
)
def test_what_is_reserved_fits_the_nodes(tensor: int, pipeline: int, gpus: list[int], models: int) -> None:
    asked, there = VllmOptions(tensor_parallel=tensor, pipeline_parallel=pipeline), nodes(*gpus)
    try:
        shares = shares_of(options(asked, models), there)
    except UsageError:
        assert sum(count // asked.workers for count in gpus) < models
        return
    if asked.workers > 1 and any(gpus):
        assert {share.num_gpus for share in shares} == {float(asked.workers)}
        assert len(shares) <= sum(count // asked.workers for count in gpus)


def test_vllm_is_told_of_the_stages() -> None:
    def told(asked: VllmOptions) -> dict[str, str]:
        made = engine_argv(
            asked,
            path="/m",
            model="q",
            dtype="auto",
            seed=0,
            max_model_len=None,
            concurrency=None,
            trust_remote_code=False,
            gpu_share=asked.workers,
        )
        return dict(made)

    for asked in (parsed("--pipeline-parallel", "2"), parsed("--engine-arg", "pipeline-parallel-size=2")):
        assert (asked.tensor_parallel, asked.pipeline_parallel) == (1, 2)
        found = told(asked)
        assert (found["pipeline-parallel-size"], found["tensor-parallel-size"]) == ("2", "1")
        assert found["distributed-executor-backend"] == "mp"
    assert "pipeline-parallel-size" not in told(parsed())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--pipeline-parallel", "0"), "--pipeline-parallel 0: must be at least 1"),
        (("--engine-arg", "pipeline_parallel_size=0"), "pipeline_parallel_size=0: must be a whole number"),
        (
            ("--engine-arg", "pipeline_parallel_size=two"),
            "pipeline_parallel_size=two: must be a whole number",
        ),
    ],
)
def test_numbers_that_are_none(argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parsed(*argv)


def test_a_topology_without_vllm_refuses_it() -> None:
    parser = argparse.ArgumentParser()
    vllm.add_arguments(parser)
    with pytest.raises(UsageError, match="--pipeline-parallel is for vLLM: topology rac does not run it"):
        vllm.refuse_flags(parser.parse_args(["--pipeline-parallel", "2"]), "rac")
