"""How many places the engines of a backend of ours have, from its ``/rvtop/topology``."""

from __future__ import annotations

from typing import Any

import pytest

from rvtop.target.engines import engine_knobs, engine_places
from rvtop.target.probe import _dashboard
from rvtop.text import printable


def test_places_are_what_each_engine_computes_on_at_once() -> None:
    rows = [{"engine": "rac-0", "concurrency": 1}, {"engine": "rvc-1", "concurrency": 256}]
    assert engine_places(rows) == {"rac-0": 1, "rvc-1": 256}


@pytest.mark.parametrize(
    "rows",
    [
        *(None, 7, {}, "engines", [None], [[]], [{}], [{"engine": "e"}], [{"engine": 1, "concurrency": 2}]),
        *([{"engine": "e", "concurrency": places}] for places in (0, -1, True, 2.5, "8", None, 1 << 40)),
    ],
)
def test_what_is_no_count_of_places_is_left_out(rows: Any) -> None:
    assert engine_places(rows) == {}


def test_knobs_are_what_each_engine_says_of_itself() -> None:
    told = {"kind": "hf", "model": "a\x1b[31m", "dtype": "float32", "threads": 3, "max_model_len": 2048}
    (found,) = engine_knobs([{**told, "concurrency": 1, "devices": ["cpu"], "pid": 7, "state": "ready"}])
    assert found == {**told, "model": printable(str(told["model"])), "concurrency": 1, "devices": 0}
    (found,) = engine_knobs([{"dtype": "bfloat16", "threads": None, "devices": ["cuda:0", "cuda:1"]}])
    assert found == {"dtype": "bfloat16", "devices": 2}


@pytest.mark.parametrize("rows", [None, 7, {}, "engines", [None], [[]]])
def test_what_is_no_list_of_engines_has_noknobs_of(rows: Any) -> None:
    assert engine_knobs(rows) == ()


def test_a_knob_of_another_type_is_left_out() -> None:
    assert engine_knobs([{"threads": [1], "dtype": {"a": 1}, "concurrency": 2.5, "devices": 3}]) == ({},)


def test_the_dashboard_is_a_url_that_can_be_shown() -> None:
    assert _dashboard({"dashboard": "http://10.0.0.1:8265"}) == "http://10.0.0.1:8265"
    assert _dashboard({"dashboard": "http://a\x1b[31m"}) == printable("http://a\x1b[31m")
    for told in (None, [], {}, {"dashboard": None}, {"dashboard": 7}, {"dashboard": "javascript:x"}):
        assert _dashboard(told) == ""
