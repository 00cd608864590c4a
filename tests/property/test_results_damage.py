"""A run folder damaged in any way gives its figures or one line, never a traceback."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rvtop.errors import UserError
from rvtop.plain import result_lines
from rvtop.results import summary
from tests.unit.run_folder import command, make, phase, request, second

FILES = ("environment.json", "requests.jsonl", "commands.jsonl", "timeline.jsonl")
GPU = {"node": "n", "index": 0, "name": "H", "memory_used": 1, "memory_total": 2, "util": 0.5}
NODE = {"name": "n", "cpu": 0.5, "memory_used": 1, "memory_total": 2}
FIGURES = {"ttft_p99": 10.0, "error_rate": None}


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A run folder in which every kind of row occurs."""
    rows = [
        request(i, "p", 20 * i, lag=1, first=50, last=90, itl_hist=[[460, 4]], model="ab"[i % 2])
        for i in range(4)
    ]
    rows += [
        request(4, "q", 1500, lag=1, error="reset", error_text="x"),
        request(5, "q", 1600, error="dropped"),
    ]
    step = {"rps": 2.0, "held": True, "confirms": False, "figures": FIGURES, "limited_by": "x"}
    commands = [
        phase("p", 0, 1),
        command(0.5, "worker_lost", worker=0, in_flight=2, by_model={"a": 1, "b": 1}),
        command(0.9, "step", **step),
        command(0.95, "step", **step | {"rps": 4.0, "held": False}),
        phase("q", 1.2, None, burst=2),
        command(2, "found", rps=2.0, slo={"ttft_p99": 5}, capped=False),
        command(3, "stop"),
    ]
    more = {"engines": [{"name": "0", "kv_usage": 0.5}], "gpus": [GPU], "nodes": [NODE]}
    more |= {"deployments": [{"name": "d", "replicas": 1}], "totals": {"preemptions": 3}, "worker_cpu": 0.5}
    timeline = [
        second(t, kv_usage=0.1, running=2, loop_lag_ms=0.1, workers=1, **more) for t in (0.5, 1.0, 2.5)
    ]
    with tempfile.TemporaryDirectory() as folder:
        yield make(Path(folder) / "run", rows, commands, timeline, flags={"workers": "auto"})


NUMBERS = st.sampled_from(
    [0, -1, -7, 1, 3, 1 << 31, 1 << 53, 1 << 62, 1 << 63, -(1 << 63), 1 << 70, 1e18, 1e308]
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """``value`` with ``new`` at ``path``; ``...`` takes it out."""
    if not path:
        return new
    copy = value.copy()
    changed = put(value[path[0]], path[1:], new)
    if changed is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed
    return copy


def damage(folder: Path, draw: st.DrawFn) -> None:
    """Changes one value of one row, or some bytes of one file."""
    path = folder / draw(st.sampled_from(FILES))
    text = path.read_bytes()
    lines = text.splitlines(keepends=True)
    kind = draw(st.sampled_from(["value", "value", "value", "value", "bytes", "cut", "gone", "swap"]))
    if kind == "value" and lines:
        index = draw(st.integers(0, len(lines) - 1))
        try:
            row = json.loads(lines[index])
        except ValueError:  # damaged before
            return
        place = draw(st.sampled_from(places(row)))
        new = put(row, place, draw(VALUES | st.just(...)))
        lines[index] = b"" if new is ... else json.dumps(new).encode() + b"\n"
        path.write_bytes(b"".join(lines))
    elif kind == "bytes":
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 40))
        path.write_bytes(text[:start] + draw(st.binary(max_size=40)) + text[end:])
    elif kind == "cut":
        path.write_bytes(text[: draw(st.integers(0, len(text)))])
    elif kind == "gone":
        path.write_bytes(b"")
    else:  # as one file written over another
        path.write_bytes((folder / draw(st.sampled_from(FILES))).read_bytes())


@settings(max_examples=100, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_a_damaged_run_gives_figures_or_one_line(whole: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as base, warnings.catch_warnings():
        warnings.simplefilter("error")  # of NumPy's: they would be printed
        folder = Path(base) / "run"
        shutil.copytree(whole, folder)
        for _ in range(data.draw(st.integers(1, 3))):
            damage(folder, data.draw)
        refused = ""
        try:
            result = summary.write(folder)
        except UserError as error:
            refused = str(error)
        if refused:
            assert str(folder) in refused
            assert "\n" not in refused
        else:
            json.loads((folder / "summary.json").read_bytes())
            assert result_lines(result, "x")[-1] == "run folder: x"
