"""Sessions of agents that others recorded become tasks, with what they shared of their prompts; what is wrong
with a file is told with its line."""

# ruff: noqa: E501  # one case a line: the tables of bad files are read like tables

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.steps import Talk
from rvtop.scenario.trace_format import detect
from rvtop.scenario.workload import PromptsWorkload, TasksWorkload, TraceWorkload
from rvtop.workload.prepare import write_prompts

KINDS: dict[str, Any] = {"trace": TraceWorkload, "tasks": TasksWorkload, "prompts": PromptsWorkload}


async def made(folder: Path, name: str, *lines: Any, **keys: Any) -> list[dict[str, Any]]:
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    workload = KINDS[keys["kind"]].model_validate({"file": str(folder / name), **keys})
    await write_prompts(workload, folder / "prompts.jsonl", 1, lambda step: None)
    Prompts(folder / "prompts.jsonl", ["m"], {})  # as a worker reads it
    return [json.loads(line) for line in (folder / "prompts.jsonl").read_text("utf-8").splitlines()]


async def refused(folder: Path, name: str, *lines: Any, **keys: Any) -> str:
    with pytest.raises(UserError) as caught:
        await made(folder, name, *lines, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def sent(folder: Path, task: int = 0) -> list[list[str]]:
    """The words of each request of a task, as they would be sent where each answer is ``A``."""
    prompts = Prompts(folder / "prompts.jsonl", ["m"], {})
    talk = Talk(0, task, 0, 0, prompts.steps[task], prompts.first_messages(task))
    said: dict[int, list[Any]] = {0: prompts.first_messages(task)}
    ready = [0]
    while ready:
        for step in talk.ended(ready.pop(0), "A"):
            said[step] = list(talk.messages(step))
            ready.append(step)
    return [" ".join(one["content"] for one in said[step]).split() for step in sorted(said)]


def shared(one: list[str], other: list[str]) -> int:
    """How many words two prompts begin with alike."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def alike(one: list[Any], other: list[Any]) -> int:
    return shared([str(name) for name in one], [str(name) for name in other])


def check_blocks(prompts: list[list[str]], ids: list[list[Any]], block: int) -> None:
    """Each two prompts share as many whole blocks as their ids say, no more and no less."""
    for a, b in combinations(range(len(prompts)), 2):
        assert shared(prompts[a], prompts[b]) // block == alike(ids[a], ids[b]), (a, b)


async def test_bailian_keeps_its_blocks_of_16(tmp_path: Path) -> None:
    ids = [[1, 2, 3], [1, 2, 3, 4, 5], [9, 2, 3], [1, 2, 7, 4]]
    turns = [(159, -1, 61.114), (160, 159, 62.5), (161, -1, 62.75), (162, 159, 63.0)]
    rows = await made(
        tmp_path,
        "t.jsonl",
        *(
            {"chat_id": chat, "parent_chat_id": parent, "timestamp": at, "input_length": 16 * len(names) - 3,
             "output_length": 7, "type": "text", "turn": 1, "hash_ids": names}
            for (chat, parent, at), names in zip(turns, ids, strict=True)
        ),
        kind="trace",
    )  # fmt: skip
    assert [row["at_s"] for row in rows] == [0, 1.386, 1.636, 1.886]
    words = [row["messages"][0]["content"].split() for row in rows]
    assert [len(one) for one in words] == [45, 77, 45, 61]
    check_blocks([[*one, *["-"] * 16] for one in words], [one[:-1] for one in ids], 16)


async def test_a_session_of_hash_blocks_keeps_what_its_requests_share(tmp_path: Path) -> None:
    def asks(t: float, took: float, *ids: int, out: int = 5) -> dict[str, Any]:
        return {
            "t": t,
            "type": "s",
            "model": "m",
            "in": 64 * len(ids),
            "out": out,
            "hash_ids": list(ids),
            "api_time": took,
        }

    def agent(t: float, name: str, *requests: dict[str, Any]) -> dict[str, Any]:
        return {
            "t": t,
            "type": "subagent",
            "agent_id": name,
            "status": "completed",
            "requests": list(requests),
        }

    one = {
        "id": "conv0", "models": ["m"], "block_size": 64, "hash_id_scope": "local",
        "requests": [
            asks(0.0, 2.0, 1, 2),
            asks(5.0, 1.0, 1, 2, 3),
            agent(6.5, "a", asks(6.5, 2.0, 1, 50), asks(9.0, 1.0, 1, 50, 51)),  # the session's clock
            agent(6.5, "b", asks(0.1, 4.0, 1, 60)),  # its own clock
            asks(12.0, 1.0, 1, 2, 3, 4),
        ],
    }  # fmt: skip
    rows = await made(tmp_path, "t.jsonl", one, one | {"id": "conv1"}, kind="tasks", format="weka")
    assert [step["after"] for step in rows[0]["steps"]] == [[0], [1], [1], [2], [3, 4]]
    assert [step["tool_s"] for step in rows[0]["steps"]] == [3.0, 0.5, 0.6, 0.5, 1.4]
    ids = [[1, 2], [1, 2, 3], [1, 50], [1, 60], [1, 50, 51], [1, 2, 3, 4]]
    words = sent(tmp_path)
    assert [len(one) for one in words] == [64 * len(one) for one in ids]
    check_blocks([[*one, "-"] for one in words], ids, 64)
    assert shared(words[0], sent(tmp_path, 1)[0]) < 64  # names of blocks are their session's own


def span(number: int, parent: int, start_s: float, end_s: float, **attributes: Any) -> dict[str, Any]:
    def value(one: Any) -> dict[str, Any]:
        return {"intValue": str(one)} if isinstance(one, int) else {"stringValue": one}

    return {
        "traceId": "5b8e" * 8, "spanId": f"{number:016x}", "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "x", "startTimeUnixNano": str(round(start_s * 1e9)), "endTimeUnixNano": str(round(end_s * 1e9)),
        "attributes": [
            {"key": f"gen_ai.{key.replace('__', '.')}", "value": value(one)} for key, one in attributes.items()
        ],
    }  # fmt: skip


def chat(
    number: int, parent: int, start_s: float, end_s: float, tokens: tuple[int, int], **more: Any
) -> dict[str, Any]:
    counts = {"usage__input_tokens": tokens[0], "usage__output_tokens": tokens[1]}
    return span(number, parent, start_s, end_s, operation__name="chat", **counts, **more)


def document(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def agent_spans(at_s: float = 1000.0) -> dict[str, Any]:
    """A planner, two sub-agents side by side (one with two calls), and a call that joins them."""
    agent = {"operation__name": "invoke_agent"}
    return document(
        span(1, 0, at_s, at_s + 20, **agent),
        chat(2, 1, at_s, at_s + 1, (300, 20)),
        span(3, 1, at_s + 1, at_s + 3, operation__name="execute_tool", tool__name="search"),
        span(4, 1, at_s + 3, at_s + 9, **agent),
        span(5, 1, at_s + 3, at_s + 7, **agent),
        chat(6, 4, at_s + 3.25, at_s + 4, (370, 10)),
        chat(7, 4, at_s + 6, at_s + 9, (420, 12)),
        chat(8, 5, at_s + 3.5, at_s + 7, (350, 30)),
        chat(9, 1, at_s + 10, at_s + 11, (500, 5)),
    )


async def test_spans_of_an_agent_become_a_task_that_forks_and_joins(tmp_path: Path) -> None:
    later = json.loads(json.dumps(agent_spans(1002.5)).replace("5b8e" * 8, "77aa" * 8))
    rows = await made(tmp_path, "t.jsonl", later, agent_spans(), kind="trace")
    assert [row["at_s"] for row in rows] == [0.0, 2.5]
    assert [step["after"] for step in rows[0]["steps"]] == [[0], [0], [1], [2, 3]]
    assert [step["tool_s"] for step in rows[0]["steps"]] == [2.25, 2.5, 2.0, 1.0]
    assert [rows[0]["max_tokens"], *(step["max_tokens"] for step in rows[0]["steps"])] == [20, 10, 30, 12, 5]
    words = sent(tmp_path)  # answers are of one word here: of as many tokens as were recorded there
    counts = [300, 370 - 20 + 1, 350 - 20 + 1, 420 - 20 - 10 + 2, 500 - 20 - 30 - 12 + 3]
    assert [len(one) for one in words] == counts
    assert all(shared(words[0], one) == 300 for one in words)
    assert shared(words[1], words[3]) == 351
    assert shared(words[1], words[2]) < 310


async def test_messages_that_were_recorded_are_sent_as_they_are(tmp_path: Path) -> None:
    said = [
        {"role": "user", "parts": [{"type": "text", "content": "weather in Paris?"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c", "name": "get", "arguments": {"at": "Paris"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "result": "rainy"}]},
    ]
    texts = {"system_instructions": json.dumps([{"type": "text", "content": "be brief"}])}
    first = chat(1, 0, 0, 1, (9, 3), input__messages=json.dumps(said[:1]), conversation__id="c1", **texts)
    other = chat(2, 0, 5, 6, (20, 4), input__messages=json.dumps(said), conversation__id="c1", **texts)
    other["traceId"] = "77aa" * 8  # one conversation, a trace for each answer
    (tmp_path / "t.json").write_text(json.dumps(document(first, other), indent=1))
    workload = TasksWorkload(kind="tasks", file=str(tmp_path / "t.json"))
    await write_prompts(workload, tmp_path / "prompts.jsonl", 1, lambda step: None)
    (row,) = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert row["id"] == "c1"
    assert row["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "weather in Paris?"},
    ]
    (step,) = row["steps"]
    assert (step["whole"], step["tool_s"], step["max_tokens"]) == (True, 4.0, 4)
    assert [one["role"] for one in step["messages"]] == ["system", "user", "assistant", "user"]
    assert '"Paris"' in step["messages"][2]["content"]
    assert step["messages"][3]["content"] == "rainy"


async def test_aiperf_sessions_grow_or_keep_their_blocks(tmp_path: Path) -> None:
    rows = await made(
        tmp_path,
        "t.jsonl",
        {"session_id": "a", "timestamp": 500, "input_length": 30, "output_length": 4},
        {"timestamp": 0, "input_length": 1300, "output_length": 52, "hash_ids": [0, 1, 2]},
        {"session_id": "b", "timestamp": 900, "input_length": 1024, "output_length": 3, "hash_ids": [0, 7]},
        {"session_id": "a", "delay": 2, "input_length": 15, "output_length": 6},
        {"session_id": "b", "delay": 40, "input_length": 1536, "output_length": 3, "hash_ids": [0, 7, 8]},
        kind="trace",
    )
    assert [(row["at_s"], len(row.get("steps", []))) for row in rows] == [(0.0, 0), (0.5, 1), (0.9, 1)]
    assert [row["steps"][0]["tool_s"] for row in rows[1:]] == [0.002, 0.04]
    assert [len(one) for one in sent(tmp_path, 1)] == [30, 30 + 1 + 15]
    words = [rows[0]["messages"][0]["content"].split(), *sent(tmp_path, 2)]
    check_blocks([[*one, "-"] for one in words], [[0, 1, 2], [0, 7], [0, 7, 8]], 512)


async def test_aiperf_turns_texts_and_pools(tmp_path: Path) -> None:
    turns = {
        "session_id": "s1",
        "turns": [{"text": "hi", "output_length": 9}, {"text": "and?", "delay": 1500}],
    }
    (row,) = await made(tmp_path, "t.jsonl", turns, kind="tasks", format="aiperf")
    assert row["messages"] == [{"role": "user", "content": "hi"}]
    assert row["steps"] == [{"messages": [{"role": "user", "content": "and?"}], "tool_s": 1.5}]
    assert [" ".join(one) for one in sent(tmp_path)] == ["hi", "hi A and?"]
    lines = [{"text": f"prompt {i}"} for i in range(20)]
    rows = await made(tmp_path, "t.jsonl", *lines, kind="prompts", format="aiperf", limit=3)
    assert [row["messages"][0]["content"] for row in rows] == ["prompt 0", "prompt 1", "prompt 2"]
    drawn = await made(tmp_path, "t.jsonl", *lines, kind="prompts", format="aiperf-pool", limit=200)
    assert len(drawn) == 200
    assert {row["messages"][0]["content"] for row in drawn} == {line["text"] for line in lines}
    alone = [
        {"session_id": "x", "text": "one", "timestamp": 5},
        {"session_id": "x", "text": "two", "timestamp": 30},
    ]
    (row,) = await made(tmp_path, "t.jsonl", *alone, kind="trace")
    assert (row["steps"][0]["whole"], row["steps"][0]["tool_s"]) == (True, 0.025)
    said = [{"role": "user", "content": "q1"}], [{"role": "user", "content": "q2"}]
    delta = [
        {"session_id": "d", "message_mode": "delta", "messages": one, "output_length": 4, "delay": 1}
        for one in said
    ]
    await made(tmp_path, "t.jsonl", *delta, kind="tasks", format="aiperf")
    assert [" ".join(one) for one in sent(tmp_path)] == ["q1", "q1 A q2"]


@pytest.mark.parametrize(
    ("keys", "lines", "said"),
    [
        ({"kind": "trace"}, [{"session_id": "a", "input_length": 3}], "t.jsonl:1: timestamp: is missing; without times send it as kind: prompts"),
        ({"kind": "trace"}, [{"text": "x", "timestamp": 0}, {"text": "x", "images": ["u"]}], "t.jsonl:2: images: rvtop sends text only; take such lines out"),
        ({"kind": "prompts", "format": "aiperf"}, [{"texts": []}], "t.jsonl:1: has no text, texts, input_length, text_input or messages"),
        ({"kind": "prompts", "format": "aiperf"}, [{"texts": 5}], "t.jsonl:1: has no text, texts, input_length, text_input or messages"),
        ({"kind": "prompts", "format": "aiperf"}, [{"texts": [{"contents": []}]}], "t.jsonl:1: has no text, texts, input_length, text_input or messages"),
        ({"kind": "tasks", "format": "aiperf"}, [{"turns": [{"text": "x"}, {"text": "x", "delay": -1}]}], "t.jsonl:1: turns[1]: delay: must be from 0 to 1e+09 milliseconds, got -1"),
        ({"kind": "trace"}, [{"chat_id": 1, "timestamp": 0.0, "input_length": 30, "output_length": 1, "hash_ids": [1]}], "t.jsonl:1: hash_ids: 30 tokens make 2 blocks of 16, but there are 1 ids (workload.block_tokens sets another block size)"),
        ({"kind": "tasks", "format": "weka"}, [{"id": "a", "requests": [{"t": "x"}]}], "t.jsonl:1: requests[0].t: must be a number of seconds, got 'x'"),
        ({"kind": "tasks", "format": "weka"}, [{"id": "a", "requests": [{"t": 0, "in": 64, "out": 1, "hash_ids": [1, 2]}]}], "t.jsonl:1: requests[0].hash_ids: 2 blocks of 64 are more than its 64 tokens; block_size says another size"),
        ({"kind": "trace"}, [document(span(1, 0, 0, 1, operation__name="execute_tool"))], "t.jsonl: holds no span of a model's call: gen_ai.operation.name must be one of chat, text_completion, generate_content, with gen_ai.usage.input_tokens and gen_ai.usage.output_tokens"),
        ({"kind": "trace"}, [document(chat(1, 0, 0, 1, (1, 1)) | {"endTimeUnixNano": "soon"})], "t.jsonl:1: span 0000000000000001: endTimeUnixNano must be a time in nanoseconds, got 'soon'"),
        ({"kind": "trace"}, [document(chat(1, 0, 0, 1, (1, 1)) | {"attributes": [{"key": "x", "value": {"arrayValue": [1]}}]})], "t.jsonl:1: span 0000000000000001: attributes must be [{key, value}, …]"),
        ({"kind": "trace"}, [document(chat(1, 0, 0, 1, (1, 1)) | {"endTimeUnixNano": "9" * 400})], f"t.jsonl:1: span 0000000000000001: endTimeUnixNano must be a time in nanoseconds, got {'9' * 400!r}"),
        ({"kind": "trace", "max_prompt_tokens": 9}, [agent_spans()], "t.jsonl: workload.max_prompt_tokens is not for sessions (otel), which grow; take it out"),
        ({"kind": "tasks"}, [{"messages": [{"role": "user", "content": "x"}]}], 't.jsonl: row 1 has no "steps": give it the list of them, [] for none; kind: prompts sends rows without'),
        ({"kind": "tasks"}, [{"messages": [{"role": "user", "content": "x"}], "steps": [{"messages": [{"role": "user"}], "after": [1]}]}], 't.jsonl:1: steps[0]: "after" must be a list of steps from 0 to 0, each once, got [1]'),
        ({"kind": "tasks"}, [{"messages": [{"role": "user", "content": "x"}], "steps": [{"messages": [{"role": "user"}], "tool_s": -1}]}], 't.jsonl:1: steps[0]: "tool_s" must be a number of seconds ≥ 0, got -1'),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, keys: Any, lines: Any, said: str) -> None:
    assert await refused(tmp_path, "t.jsonl", *lines, **keys) == said


def test_the_format_is_told_by_the_first_line(tmp_path: Path) -> None:
    lines = {
        "mooncake": {"timestamp": 0, "input_length": 3, "output_length": 1, "hash_ids": [1]},
        "bailian": {"chat_id": 1, "timestamp": 0.0},
        "aiperf": {"session_id": "a", "input_length": 3},
        "otel": agent_spans(),
    }
    for name, line in lines.items():
        (tmp_path / "t.jsonl").write_text("\n" + json.dumps(line) + "\n")
        assert detect(tmp_path / "t.jsonl", None) == name
    (tmp_path / "t.jsonl").write_bytes(b"\xff{")
    assert detect(tmp_path / "t.jsonl", None) == "mooncake"  # whose reader says what is wrong
    with pytest.raises(UserError, match=r"a azure trace is a \.csv file"):
        detect(tmp_path / "t.json", "azure")


async def test_made_tasks_have_their_steps_and_are_the_same_for_a_seed(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "kind": "tasks", "count": 40, "steps": {"dist": "uniform", "min": 3, "max": 9}, "prompt_tokens": 50,
        "growth_tokens": 20, "output_tokens": {"dist": "uniform", "min": 4, "max": 8}, "prefix_tokens": 100,
        "tool_ms": {"dist": "lognormal", "mean": 200, "std": 100}, "fan_out": {"dist": "uniform", "min": 2, "max": 3},
        "fan_share": 0.3,
    }  # fmt: skip

    async def rows(**more: Any) -> list[dict[str, Any]]:
        workload = TasksWorkload.model_validate(keys | more)
        await write_prompts(workload, tmp_path / "prompts.jsonl", 5, lambda step: None)
        return [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]

    first = await rows()
    assert {len(row["steps"]) + 1 for row in first} == set(range(3, 10))
    after = [step["after"] for row in first for step in row["steps"]]
    joins = {len(one) for one in after}
    assert joins == {1, 2, 3}
    tools = [step["tool_s"] for row in first for step in row["steps"]]
    assert 0.15 < sum(tools) / len(tools) < 0.26
    words = [row["messages"][0]["content"].split() for row in first]
    assert {len(one) for one in words} == {150}
    assert all(100 <= shared(words[0], one) < 105 for one in words[1:])
    assert await rows() == first
    del keys["fan_share"], keys["fan_out"], keys["tool_ms"]
    other = await rows()
    assert [row["messages"] for row in other] == [row["messages"] for row in first]
    assert all(step["after"] == [k] for row in other for k, step in enumerate(row["steps"]))
    assert "tool_s" not in other[0]["steps"][0]
