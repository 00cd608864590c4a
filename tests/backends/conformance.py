"""What the conformance suite does with a backend: ask, stream, read its metrics, keep it busy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MAX_QUEUE = 4
LONG = 4000  # tokens that keep an engine busy while a busy machine looks at it
TOOL = {
    "type": "function",
    "function": {
        "name": "days_off",
        "parameters": {
            "type": "object",
            "properties": {"year": {"enum": [2024, 2025]}},
            "required": ["year"],
            "additionalProperties": False,
        },
    },
}
QUESTIONS = (
    "휴가는 며칠입니까?",
    "How many days of leave does an employee get?",
    "출장비는 어떻게 청구합니까?",
)


def messages(text: str = QUESTIONS[0]) -> list[dict[str, str]]:
    return [{"role": "system", "content": "짧게 답하세요."}, {"role": "user", "content": text}]


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def chat(client: httpx.AsyncClient, text: str = QUESTIONS[0], **fields: Any) -> dict[str, Any]:
    return await post(
        client, CHAT, **{"messages": messages(text), "temperature": 0, "max_tokens": 16, **fields}
    )


async def stream(client: httpx.AsyncClient, path: str, **body: Any) -> list[dict[str, Any]]:
    """Events of a stream, which must end in ``[DONE]``; the last but one is checked to be no error."""
    body = {"stream": True, "stream_options": {"include_usage": True}, **body}
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    decoded = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert not any("error" in event for event in decoded)
    return decoded


async def chat_stream(
    client: httpx.AsyncClient, text: str = QUESTIONS[0], **fields: Any
) -> list[dict[str, Any]]:
    body = {"messages": messages(text), "temperature": 0, "max_tokens": 16, **fields}
    return await stream(client, CHAT, **body)


def streamed_text(events: list[dict[str, Any]]) -> str:
    choices = [event["choices"][0] for event in events if event["choices"]]
    return "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices)


async def samples(client: httpx.AsyncClient) -> dict[str, float]:
    """Sums over engines and labels of every series but buckets; ``rvtop:``/``vllm:`` left out of names."""
    sums: dict[str, float] = {}
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith(("rvtop:", "vllm:")) and "_bucket" not in line:
            series, value = line.rsplit(" ", 1)
            name = series.split("{")[0].split(":", 1)[1]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


async def idle(client: httpx.AsyncClient, limit_s: float = 120.0) -> None:
    """Waits until nothing runs or waits."""
    async with asyncio.timeout(limit_s):
        while True:
            now = await samples(client)
            # An engine that is late to answer is not on the page: it may be at work.
            if now.get("num_requests_running") == 0 == now.get("num_requests_waiting"):
                return
            await asyncio.sleep(0.02)


async def occupy(client: httpx.AsyncClient, count: int) -> list[asyncio.Task[dict[str, Any]]]:
    """Long generations: one runs, the others wait.

    The first is seen to run before the others are sent: of five that arrive at once at an idle engine, each
    is in the queue for a moment, and a queue of four may rightly refuse the fifth.
    """

    def more(number: int) -> list[asyncio.Task[dict[str, Any]]]:
        return [
            asyncio.create_task(chat(client, max_tokens=LONG, ignore_eos=True, temperature=0))
            for _ in range(number)
        ]

    async def all_in(tasks: list[asyncio.Task[dict[str, Any]]]) -> None:
        async with asyncio.timeout(120):
            while True:
                now = await samples(client)
                running, waiting = now["num_requests_running"], now["num_requests_waiting"]
                if running >= 1 and running + waiting >= len(tasks):  # the first has left the queue
                    return
                for task in tasks:
                    assert not task.done(), f"a long request ended early: {task.exception() or task.result()}"
                await asyncio.sleep(0.005)

    await idle(client)
    tasks = more(1)
    await all_in(tasks)
    tasks += more(count - 1)
    await all_in(tasks)
    return tasks


async def drop(client: httpx.AsyncClient, tasks: list[asyncio.Task[dict[str, Any]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await idle(client)
