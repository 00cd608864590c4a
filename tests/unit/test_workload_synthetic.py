"""Made-up prompts: lengths from distributions, shared prefixes, conversations; the seed's to the byte."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.scenario.lengths import Lengths
from rvtop.scenario.workload import SyntheticWorkload
from rvtop.workload.lengths import draw
from rvtop.workload.prepare import prepare
from rvtop.workload.rows import encode
from rvtop.workload.synthetic import rows


def workload(**keys: Any) -> SyntheticWorkload:
    data = {"kind": "synthetic", "prompt_tokens": 20, "output_tokens": 9, "count": 40}
    return SyntheticWorkload.model_validate(data | keys)


def words(turn: dict[str, Any]) -> list[str]:
    (message,) = turn["messages"]
    return str(message["content"]).split()


@st.composite
def lengths(draws: st.DrawFn, most: int = 200) -> dict[str, Any]:
    low = draws(st.integers(1, most))
    high = draws(st.integers(low, most))
    dist = draws(st.sampled_from(["normal", "lognormal", "uniform", "exponential"]))
    length: dict[str, Any] = {"dist": dist, "min": low, "max": high}
    if dist != "uniform":
        length["mean"] = draws(st.floats(low, high))
    if dist in ("normal", "lognormal"):
        length["std"] = draws(st.floats(0.001, 1e6))
    return length


@settings(max_examples=40, deadline=None)
@given(lengths(), lengths(), lengths(6), st.floats(0.01, 1), st.integers(0, 2**63 - 1))
def test_same_seed_same_bytes_and_lengths_within_bounds(
    prompt: dict[str, Any], output: dict[str, Any], turns: dict[str, Any], share: float, seed: int
) -> None:
    keys: dict[str, Any] = {"prompt_tokens": prompt, "output_tokens": output, "turns": turns, "count": 12}
    if turns["max"] > 1:
        keys["think"] = "2s"
    made = workload(**keys, prefix_tokens=7, prefix_share=share) if round(12 * share) else workload(**keys)
    once = list(rows(made, seed))
    assert [encode(row) for row in once] == [encode(row) for row in rows(made, seed)]
    assert len(once) == 12
    extra = Counter(len(words(row)) - draw_ for row, draw_ in zip(once, _own(made, seed), strict=True))
    assert extra == Counter({7: made.prefixed, 0: 12 - made.prefixed}) - Counter()
    for row in once:
        follow_ups = row.get("turns", [])
        assert turns["min"] <= 1 + len(follow_ups) <= turns["max"]
        assert all(turn["delay_s"] == 2 for turn in follow_ups)
        assert all(prompt["min"] <= len(words(turn)) <= prompt["max"] for turn in follow_ups)
        assert all(output["min"] <= turn["max_tokens"] <= output["max"] for turn in [row, *follow_ups])


def _own(made: SyntheticWorkload, seed: int) -> list[int]:
    """The prompts' lengths without prefixes."""
    bare = made.model_copy(update={"prefix_tokens": None})
    found = [len(words(row)) for row in rows(bare, seed)]
    assert isinstance(made.prompt_tokens, Lengths)
    assert all(made.prompt_tokens.low <= length <= made.prompt_tokens.high for length in found)
    return found


@pytest.mark.parametrize(
    ("length", "mean", "std"),
    [
        ({"dist": "normal", "mean": 600, "std": 50}, 600, 50),
        ({"dist": "lognormal", "mean": 600, "std": 300}, 600, 300),
        ({"dist": "uniform", "min": 100, "max": 300}, 200, 58),
        ({"dist": "exponential", "mean": 600}, 600, 600),
    ],
)
def test_drawn_lengths_have_the_mean_and_spread_asked_for(
    length: dict[str, Any], mean: float, std: float
) -> None:
    source = random.Random(3)
    asked = Lengths.model_validate(length)
    drawn = [draw(asked, source) for _ in range(20_000)]
    assert fmean(drawn) == pytest.approx(mean, rel=0.03)
    assert pstdev(drawn) == pytest.approx(std, rel=0.05)
    assert asked.average == mean


def test_prefixes_are_shared_by_the_asked_share_evenly() -> None:
    made = list(rows(workload(count=100, prefix_tokens=30, prefix_share=0.6, prefixes=3), 5))
    begins = Counter(tuple(words(row)[:30]) for row in made if len(words(row)) == 50)
    assert sorted(begins.values()) == [20, 20, 20]
    assert sum(len(words(row)) == 20 for row in made) == 40
    # mixed, not one block after the other
    longer = [len(words(row)) == 50 for row in made]
    assert 20 < sum(a != b for a, b in pairwise(longer)) < 80


def test_what_is_added_leaves_the_prompts_as_they_were() -> None:
    plain = [words(row) for row in rows(workload(), 5)]
    assert [words(row)[-20:] for row in rows(workload(prefix_tokens=9), 5)] == plain
    talks = list(rows(workload(turns=3, think="500ms"), 5))
    assert [words(row) for row in talks] == plain
    assert {len(row["turns"]) for row in talks} == {2}
    assert talks[0]["turns"][1]["delay_s"] == 0.5
    assert "max_tokens" not in talks[0]["turns"][1]
    longer = workload(output_tokens={"dist": "uniform", "min": 1, "max": 5})
    assert [words(row) for row in rows(longer, 5)] == plain


async def test_fixed_lengths_are_those_of_every_version(tmp_path: Path) -> None:
    """Runs of an older rvtop stay comparable: the same digest for the same seed."""
    made = await prepare(workload(prompt_tokens=40, count=512), tmp_path, 1, False, lambda step: None)
    assert made.digest == "568a7a9d6d3c3700cc1546305832a6892c4e26876a2b040cc9decde1bbaf660b"


async def test_a_stop_ends_the_making_and_leaves_no_file(tmp_path: Path) -> None:
    large = workload(prompt_tokens=100, count=1_000_000)
    making = asyncio.create_task(prepare(large, tmp_path, 1, False, lambda step: None))
    while not list(tmp_path.iterdir()):
        await asyncio.sleep(0.01)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    async with asyncio.timeout(120):
        while list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)


async def test_an_own_output_length_stands_in_the_row_alone(tmp_path: Path) -> None:
    drawn = workload(output_tokens={"dist": "normal", "mean": 50, "std": 9})
    made = await prepare(drawn, tmp_path, 1, False, lambda step: None)
    assert made.body == {"temperature": 0.0, "ignore_eos": True}
    own = {json.loads(line)["max_tokens"] for line in made.prompts.read_text().splitlines()}
    assert len(own) > 5
