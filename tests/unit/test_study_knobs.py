"""The knobs of a showdown: equal for all, read back from what engines say, and told where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.cli import parse_options
from rvtop.cli.showdown import SameForAll, listed_entries
from rvtop.errors import UserError
from rvtop.session.request import find
from rvtop.study.entries import entries
from rvtop.study.knobs import Knobs, differences, equal_lengths, knobs_for, knobs_of, notes


def test_each_engine_has_its_part_of_the_cores_less_one() -> None:
    assert knobs_for(cores=8, models=1, gpu=False) == Knobs(7, "float32")
    assert knobs_for(cores=8, models=2, gpu=False).threads == 3
    assert knobs_for(cores=8, models=2, gpu=False, num_replicas=2).threads == 1
    assert knobs_for(cores=1, models=3, gpu=True) == Knobs(1, "bfloat16")
    assert knobs_for(cores=8, models=1, gpu=True, threads=2, dtype="float16") == Knobs(2, "float16")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"threads": 0}, "--threads 0: must be 1 or more"),
        ({"max_model_len": 1}, "--max-model-len 1: must be 2 or more"),
        ({"num_replicas": -1}, "--num-replicas -1: must be 1 or more"),
        ({"dtype": "int3"}, "--dtype int3: must be one of auto, float32"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        knobs_for(cores=4, models=1, gpu=False, **given)


def test_all_topologies_get_the_same_arguments() -> None:
    knobs = Knobs(3, "float32", 2048, 2)
    same = ("--threads", "3", "--dtype", "float32", "--max-model-len", "2048")
    further = {"baseline": knobs.arguments(several=False), "rac": knobs.arguments(several=True)}
    further["rvc"] = knobs.arguments(several=True)
    for entry in entries(("baseline", "rac", "rvc"), further=further):
        given = "\n".join(entry.arguments)
        assert "\n".join(same) in given
        assert ("--num-replicas" in entry.arguments) == (entry.topology != "baseline")


def test_a_graph_is_started_with_what_it_takes() -> None:
    """Parsed by the backends themselves, which refuse an option that a topology has not."""
    for entry in listed_entries(("rac", "graph"), SameForAll(num_replicas=2, threads=1)):
        argv = (entry.topology, "--model", "tiny", "--index", "none", *entry.arguments)
        options, _, _ = parse_options(argv)
        options.listener.close()
        assert options.max_queue is None
        graph = entry.topology == "graph"
        assert (options.num_replicas, options.graph.first("llm")) == ((None, 2) if graph else (2, 1))


@pytest.mark.parametrize("name", ["paper-rounds", "demo", "showdown", "smoke"])
def test_answers_have_the_length_asked_for(name: str) -> None:
    assert equal_lengths(find(name)).workload.ignore_eos


def folder_of(path: Path, *engines: dict[str, Any], start_s: float | None = 4.5) -> Path:
    path.mkdir()
    told = {"target_engines": engines, "start_s": start_s}
    (path / "environment.json").write_text(json.dumps(told))
    return path


HF = {"threads": 1, "dtype": "float32", "concurrency": 1, "max_model_len": 2048, "devices": 0}


def test_knobs_are_what_the_engines_said(tmp_path: Path) -> None:
    knobs, start_s = knobs_of(folder_of(tmp_path / "a", HF, {**HF, "threads": 2}), ())
    assert start_s == 4.5
    assert knobs == {
        "threads": ["1", "2"],
        "dtype": "float32",
        "concurrency": 1,
        "max_model_len": 2048,
        "engines": 2,
        "devices": 0,
        "ignore_eos": True,
        "prefix_caching": False,
    }
    assert knobs_of(folder_of(tmp_path / "b", HF), ("enable_prefix_caching=true",))[0]["prefix_caching"]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"target_engines": 3, "start_s": null}'])
def test_a_folder_that_tells_nothing_has_no_knobs(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "environment.json").write_text(text)
    knobs, start_s = knobs_of(tmp_path, ())
    assert start_s is None
    assert knobs["threads"] is knobs["engines"] is knobs["devices"] is None


def test_only_what_differs_is_told(tmp_path: Path) -> None:
    knobs = {
        "rac": knobs_of(folder_of(tmp_path / "rac", HF), ())[0],
        "rvc": knobs_of(folder_of(tmp_path / "rvc", {**HF, "concurrency": 256, "threads": None}), ())[0],
    }
    found = differences(knobs)
    assert found == {"concurrency": {"rac": 1, "rvc": 256}}
    assert notes(found) == ["requests at once per engine: 1 (rac), 256 (rvc)"]
    assert differences({"rac": knobs["rac"]}) == {}
