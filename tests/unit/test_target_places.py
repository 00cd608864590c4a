"""How many places the engines of a backend of ours have, from its ``/rvtop/topology``."""

from __future__ import annotations

from typing import Any

import pytest

from rvtop.target.probe import _places


def test_places_are_what_each_engine_computes_on_at_once() -> None:
    rows = [{"engine": "rac-0", "concurrency": 1}, {"engine": "rvc-1", "concurrency": 256}]
    assert _places(rows) == {"rac-0": 1, "rvc-1": 256}


@pytest.mark.parametrize(
    "rows",
    [
        *(None, 7, {}, "engines", [None], [[]], [{}], [{"engine": "e"}], [{"engine": 1, "concurrency": 2}]),
        *([{"engine": "e", "concurrency": places}] for places in (0, -1, True, 2.5, "8", None, 1 << 40)),
    ],
)
def test_what_is_no_count_of_places_is_left_out(rows: Any) -> None:
    assert _places(rows) == {}
