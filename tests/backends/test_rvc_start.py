"""RVC's start when it fails or is cut short, and its stop: one line with the reason, and nothing left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import CHAT, messages
from tests.backends.conftest import Launch

START_LIMIT_S = 240.0
ORPHAN_LIMIT_S = 15.0
# vLLM's engine process refuses this only after it has loaded the model: why stands in its log alone.
NO_ROOM = ("--engine-arg", "kv_cache_memory_bytes=1000")
NO_NUMBER = ("--engine-arg", "max_num_batched_tokens=many")


def started(launch: Launch, tiny_model: Path, *args: str, topology: str = "rvc") -> BackendProcess:
    return launch(topology, "--model", f"tiny={tiny_model}", "--threads", "1", *args)


@pytest.mark.parametrize("topology", ["rvc", "vllm"])
def test_what_vllm_refuses_is_one_line_and_nothing_stays(
    launch: Launch, tiny_model: Path, topology: str
) -> None:
    no_number, no_room = (
        started(launch, tiny_model, *args, topology=topology) for args in (NO_NUMBER, NO_ROOM)
    )
    seen = {}
    for backend in (no_number, no_room):
        backend.wait_for("step", START_LIMIT_S, name="weights", state="run")
        seen[backend.pid] = processes.family(backend.pid)
    for backend, code, kind, words in (
        (no_number, 2, "usage", ("vLLM: ", "max-num-batched-tokens", "many")),
        (no_room, 4, "start", ("vllm-0: vLLM: ", "Error: ", "cache blocks")),
    ):
        assert backend.wait(START_LIMIT_S) == code
        event = backend.wait_for("error")
        assert event["kind"] == kind
        assert "\n" not in event["message"]
        for word in words:
            assert word in event["message"]
        assert backend.wait_for("step", name="weights", state="fail")
        assert backend.garbage == []
        processes.wait_until_gone(seen[backend.pid], processes.folders(seen[backend.pid]), ORPHAN_LIMIT_S)
    assert "cache blocks" in no_room.log.read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_cut_short_while_it_loads(launch: Launch, tiny_model: Path, how: signal.Signals) -> None:
    backend = started(launch, tiny_model)
    backend.wait_for("step", START_LIMIT_S, name="weights", state="run")
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        everything = processes.family(backend.pid)
        paths = processes.folders(everything)
        # The hard case: vLLM's engine process (whose environment names the engine's folder) is there, too.
        if len(paths) == 3 or (how == signal.SIGTERM and processes.named(backend.pid, "ray::VllmActor")):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(backend.pid, how)
    backend.wait()
    processes.wait_until_gone(everything, paths, ORPHAN_LIMIT_S)
    if how == signal.SIGTERM:
        assert backend.process.returncode == 0
        assert backend.wait_for("stopped")
    assert not any(event["event"] in ("ready", "error") for event in backend.events)


async def test_told_to_stop_it_lets_requests_end_and_tells_those_that_would_not(
    launch: Launch, tiny_model: Path
) -> None:
    backend = started(launch, tiny_model)
    async with httpx.AsyncClient(base_url=backend.url, timeout=60, trust_env=False) as client:
        begun = [asyncio.Event() for _ in range(9)]
        lengths = [30, *[3500] * 8]  # eight at once take far longer than the time they are given
        streams = [
            asyncio.create_task(events_of(client, tokens, event))
            for tokens, event in zip(lengths, begun, strict=True)
        ]
        async with asyncio.timeout(240):
            for event in begun:
                await event.wait()
        everything = processes.family(backend.pid)
        os.kill(backend.pid, signal.SIGTERM)
        short, *long = await asyncio.gather(*streams)
    assert short[-1]["usage"]["completion_tokens"] == 30
    for events in long:
        assert events[-1]["error"]["code"] == 503
        assert "is stopping" in events[-1]["error"]["message"]
    assert backend.wait() == 0
    assert backend.wait_for("stopped")
    processes.wait_until_gone(everything, processes.folders(everything), ORPHAN_LIMIT_S)


async def events_of(client: httpx.AsyncClient, tokens: int, begun: asyncio.Event) -> list[dict[str, Any]]:
    """A stream's events but ``[DONE]``; tells when it has its first."""
    body = {"messages": messages(), "max_tokens": tokens, "ignore_eos": True, "stream": True}
    lines = []
    async with client.stream(
        "POST", CHAT, json={**body, "stream_options": {"include_usage": True}}
    ) as response:
        async for line in response.aiter_lines():
            begun.set()
            if line:
                lines.append(line.removeprefix("data: "))
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]
