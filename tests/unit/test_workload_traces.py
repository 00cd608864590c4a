"""Recorded traces become rows with times and made-up prompts; what is damaged is named with its line."""

# ruff: noqa: E501  # one case a line: the tables of bad files are read like tables

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.contract.snapshot import StartStep
from rvtop.errors import UserError
from rvtop.scenario.workload import TraceWorkload
from rvtop.workload.prepare import prepare
from rvtop.workload.traces import Trace

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def mooncake(at_ms: float, prompt: int, output: int, *ids: int) -> str:
    row = {"timestamp": at_ms, "input_length": prompt, "output_length": output, "hash_ids": list(ids)}
    return json.dumps(row) + "\n"


async def replayed(folder: Path, name: str, text: str, seed: int = 1, **keys: Any) -> list[dict[str, Any]]:
    (folder / name).write_text(text, "utf-8")
    workload = TraceWorkload.model_validate({"kind": "trace", "file": str(folder / name), **keys})
    made = await prepare(workload, folder, seed, False, lambda step: None)
    assert made.body == {"temperature": 0.0, "ignore_eos": True}
    return [json.loads(line) for line in made.prompts.read_text("utf-8").splitlines()]


async def refused(folder: Path, name: str, text: str, **keys: Any) -> str:
    with pytest.raises(UserError) as caught:
        await replayed(folder, name, text, **keys)
    assert not (folder / "prompts.jsonl").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder) + "/", "")


def content(row: dict[str, Any]) -> list[str]:
    (message,) = row["messages"]
    assert message["role"] == "user"
    return str(message["content"]).split()


def shared(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many words two prompts begin with alike."""
    pairs = zip(content(one), content(other), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(content(one)), len(content(other))))


async def test_mooncake_keeps_times_lengths_and_prefixes(tmp_path: Path) -> None:
    text = mooncake(27482, 1300, 52, 46, 47, 48)
    text += mooncake(30535, 1100, 26, 46, 47, 49) + mooncake(30535, 600, 5, 50, 51)
    rows = await replayed(tmp_path, "t.jsonl", text)
    assert [row["at_s"] for row in rows] == [0, 3.053, 3.053]
    assert [row["max_tokens"] for row in rows] == [52, 26, 5]
    assert [len(content(row)) for row in rows] == [1300, 1100, 600]
    assert 1024 <= shared(rows[0], rows[1]) < 1034  # two blocks of 512; then chance
    assert shared(rows[0], rows[2]) < 10
    assert rows == await replayed(tmp_path, "t.jsonl", text)
    assert rows != await replayed(tmp_path, "t.jsonl", text, seed=2)


async def test_a_cut_prompt_keeps_its_prefix(tmp_path: Path) -> None:
    text = mooncake(0, 1000, 1, 1, 2) + mooncake(5, 512, 1, 1) + mooncake(9, 10, 1, 3)
    whole = await replayed(tmp_path, "t.jsonl", text)
    cut = await replayed(tmp_path, "t.jsonl", text, max_prompt_tokens=600)
    assert [len(content(row)) for row in cut] == [600, 512, 10]
    assert content(cut[0]) == content(whole[0])[:600]
    assert content(whole[0])[:512] == content(whole[1])


async def test_what_became_of_a_trace_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(BURST + "0,GPT-4,9,3,12,API log\n5,GPT-4,9,0,9,x\n8,GPT-4,3,1,4,x\n")
    steps: list[StartStep] = []
    workload = TraceWorkload(kind="trace", file=str(tmp_path / "b.csv"), max_prompt_tokens=4)
    await prepare(workload, tmp_path, 1, False, steps.append)
    assert (steps[-1].name, steps[-1].state) == ("prompts", "done")
    told = "2 requests of 8 s, 1 prompts cut to 4 tokens, 1 of the trace's 3 rows left out (no prompt or no answer)"
    assert steps[-1].detail == told


async def test_burstgpt_rows_by_time_without_the_failed(tmp_path: Path) -> None:
    text = (
        BURST + "45,ChatGPT,7,230,1317,Conversation log\n5,GPT-4,5,18,490,API log\n\n50.5,ChatGPT,9,0,9,x\n"
    )
    rows = await replayed(tmp_path, "b.csv", text)
    assert [(row["at_s"], len(content(row)), row["max_tokens"]) for row in rows] == [(0, 5, 18), (40, 7, 230)]
    assert [row["id"] for row in rows] == ["trace-0", "trace-1"]
    more = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n1,a,2,m,3,4,7,x\n"
    (row,) = await replayed(tmp_path, "b.csv", more)
    assert (len(content(row)), row["max_tokens"]) == (3, 4)


async def test_azure_times_of_both_years(tmp_path: Path) -> None:
    text = AZURE + "2023-11-16 18:15:46.6805900,4,10\n2023-11-16 18:15:50.9951690,6,8\n"
    assert [row["at_s"] for row in await replayed(tmp_path, "a.csv", text)] == [0, 4.314579]
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,4,10\r\n2024-05-10 00:01:00+00:00,6,8\r\n"
    assert [row["at_s"] for row in await replayed(tmp_path, "a.csv", "\ufeff" + text)] == [0, 59.99007]


async def test_a_part_of_a_trace(tmp_path: Path) -> None:
    text = BURST + "".join(f"{at},m,1,{at},2,x\n" for at in (100, 170, 160, 220, 220, 400))
    part = await replayed(tmp_path, "b.csv", text, start="1m", limit=3)
    assert [(row["at_s"], row["max_tokens"]) for row in part] == [(0, 160), (10, 170), (60, 220)]


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 60), st.integers(1, 40) | st.none())
def test_picked_rows_are_those_of_the_time_in_order(at: list[int], start: int, limit: int | None) -> None:
    trace = Trace()
    for second in at:
        trace.add(second * 1_000_000, 1, 1)
    order = sorted(range(len(at)), key=lambda row: at[row])
    wanted = [row for row in order if at[row] >= at[order[0]] + start]
    assert list(trace.pick(float(start), limit)) == wanted[:limit]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "a,b\n1,2\n", "t.csv:1: its first line names the columns of no known trace: burstgpt (Timestamp,"),
        ("t.csv", "", "t.csv:1: its first line names the columns of no known trace"),
        ("t.csv", BURST, "t.csv: holds no request with a prompt and an answer"),
        ("t.csv", BURST + "5,m,1,2,3,x\n5,m,1,2\n", "t.csv:3: has 4 columns where the first line has 6"),
        ("t.csv", BURST + "5,m,many,2,3,x\n", "t.csv:2: Request tokens: must be a whole number from 0 to 10,000,000, got 'many'"),
        ("t.csv", BURST + "5,m,1,-2,3,x\n", "t.csv:2: Response tokens: must be a whole number"),
        ("t.csv", BURST + "nan,m,1,2,3,x\n", "t.csv:2: Timestamp: must be a number of seconds, got 'nan'"),
        ("t.csv", AZURE + "5,1,2\n", "t.csv:2: TIMESTAMP: must be a date and time such as 2023-11-16 18:15:46.68, got '5'"),
        ("t.jsonl", mooncake(0, 5, 1, 0) + "{\n", "t.jsonl:2: not JSON"),
        ("t.jsonl", "[1]\n", "t.jsonl:1: must be {"),
        ("t.jsonl", '{"timestamp": 0, "input_length": 4}\n', "t.jsonl:1: output_length is missing"),
        ("t.jsonl", mooncake(0, -5, 1), "t.jsonl:1: input_length: must be a whole number"),
        ("t.jsonl", '{"timestamp": "0", "input_length": 4, "output_length": 1}', "t.jsonl:1: timestamp: must be a number of milliseconds, got '0'"),
        ("t.jsonl", mooncake(0, 513, 1, 0), "t.jsonl:1: hash_ids: 513 tokens make 2 blocks of 512, but there are 1 ids"),
        ("t.jsonl", '{"timestamp": 0, "input_length": 4, "output_length": 1, "hash_ids": [[]]}', "hash_ids: must be a list of numbers"),
        ("t.jsonl", mooncake(0, 10_000_000, 1) * 36, "36 requests make about 2.01 GiB of prompts for each worker to hold; give workload.limit"),
    ],
)  # fmt: skip
async def test_a_damaged_trace_is_one_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    assert says in await refused(tmp_path, name, text)


async def test_a_trace_of_another_kind_than_it_is_said_to_be(tmp_path: Path) -> None:
    text = BURST + "1,m,1,1,2,x\n"
    assert (
        await refused(tmp_path, "b.csv", text, format="mooncake")
        == "b.csv: a mooncake trace is a .jsonl file"
    )
    said = await refused(tmp_path, "b.csv", text, format="azure")
    assert said == "b.csv:1: a trace of format azure has 'TIMESTAMP' in its first line"
    assert "azure trace is a .csv" in await refused(tmp_path, "b.jsonl", text, format="azure")
    assert "from 5 s on" in await refused(tmp_path, "b.csv", text, start="5s")


async def test_other_block_sizes(tmp_path: Path) -> None:
    text = mooncake(0, 40, 1, 1, 2, 3) + mooncake(0, 33, 1, 1, 2, 9)
    one, other = await replayed(tmp_path, "t.jsonl", text, block_tokens=16)
    assert shared(one, other) >= 32
