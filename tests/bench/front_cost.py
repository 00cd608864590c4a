"""CPU-microseconds a token in one front process of RVC, at a mock engine.

Everything that a front process does is real (the HTTP server, admission, `AsyncLLM` with its detokenising,
the SSE answer); only vLLM's engine process is not there: tokens come in steps, one for each request, as it
would send them. The client is another process, whose time does not count.
``python -m tests.bench.front_cost``.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

from backends.cluster.vllm_service import EngineSpec, listen, open_service, serve_on
from backends.settings.options import ModelSpec, Options

TOKEN = "bench"
#: Sends half of the requests at once and half while those stream, and reads every answer to its end.
CLIENT = """
import asyncio, json, sys, time
firsts = []
port, streams, tokens = map(int, sys.argv[1:])
text = " ".join(f"w{i}" for i in range(200))
body = json.dumps({"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "ignore_eos": True,
    "stream": True, "stream_options": {"include_usage": True}, "rvtop": {"timings": True}}).encode()
head = (f"POST /v1/chat/completions HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer bench\\r\\n"
    f"Content-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n").encode()
async def one(late):
    await asyncio.sleep(0.5 * late)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(head + body)
    read = await reader.read(1)
    if late:
        firsts.append(time.perf_counter() - began)
    read += await reader.read()
    assert read.rstrip().endswith(b"0") and b"[DONE]" in read, read[-300:]
    writer.close()
    return read.count(b"data: {")
async def main():
    chunks = sum(await asyncio.gather(*(one(i % 2) for i in range(streams))))
    print(json.dumps([chunks, sum(firsts) / len(firsts) * 1e3]))
asyncio.run(main())
"""


class MockCore:
    """vLLM's client of an engine process, without one: each step gives every request its next token."""

    def __init__(self, step_s: float) -> None:
        self.resources = SimpleNamespace(engine_dead=False, output_queue_task=None)
        self.engine_ranks_managed = [0]
        self._step_s = step_s
        self._live: dict[str, list[int]] = {}  # made, to make
        self._some = asyncio.Event()

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return ("generate",)

    async def add_request_async(self, request: Any) -> None:
        self._live[request.request_id] = [0, request.sampling_params.max_tokens]
        self._some.set()

    async def abort_requests_async(self, ids: list[str]) -> None:
        for request_id in ids:
            self._live.pop(request_id, None)

    async def get_output_async(self) -> Any:
        from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

        while not self._live:
            self._some.clear()
            await self._some.wait()
        await asyncio.sleep(self._step_s)
        outputs = []
        for request_id, counts in list(self._live.items()):
            counts[0] += 1
            done = counts[0] == counts[1]
            if done:
                del self._live[request_id]
            token = 300 + counts[0] * 7 % 500
            reason = FinishReason.LENGTH if done else None
            outputs.append(EngineCoreOutput(request_id, [token], finish_reason=reason))
        return EngineCoreOutputs(outputs=outputs)

    def shutdown(self, timeout: float | None = None) -> None:
        pass


async def measure(streams: int, tokens: int, step_s: float, profile: bool) -> tuple[float, float]:
    """CPU-microseconds a token, prompt and all, and the mean milliseconds to the first byte of
    those that come while others stream."""
    from vllm.v1.engine.async_llm import EngineCoreClient

    from backends.engines.vllm import load_engine
    from backends.models.tiny.tiny import ensure_model

    path = str(ensure_model())
    core = MockCore(step_s)
    EngineCoreClient.make_async_mp_client = staticmethod(lambda *args, **more: core)
    arguments = [("model", path), ("served-model-name", "m"), ("dtype", "float32"), ("enforce-eager", "True")]
    engine = await load_engine(arguments, engine="vllm-0", model="m", devices=(), threads=1)
    options = Options("rvc", (ModelSpec("m", path),), listener=None)  # type: ignore[arg-type]
    spec = EngineSpec("vllm-0", "m", path, 0.0, 1, None, True, TOKEN, options, {})
    service = await open_service(spec, engine, path, None)
    listener = listen("127.0.0.1")
    server = await serve_on(service, TOKEN, listener)
    port = str(listener.getsockname()[1])
    await _client(port, 4, 8)  # what is made once is made now
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    began = time.process_time()
    events, first_ms = await _client(port, streams, tokens)
    used = time.process_time() - began
    if profile:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    await server.close()
    assert events >= streams * 2
    return used / (streams * tokens) * 1e6, first_ms


async def _client(port: str, streams: int, tokens: int) -> tuple[int, float]:
    """Chunks that the client got, and its mean milliseconds to the first byte."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", CLIENT, port, str(streams), str(tokens)), stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    chunks, first_ms = json.loads(said)
    return chunks, first_ms


def main(arguments: list[str] | None = None) -> None:
    """Prints the figure; the least of several rounds, since what else runs here only adds to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--step-ms", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="where the time goes; slower")
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", "tests.bench.front_cost", "--rounds", "0"]
    if options.rounds == 0:  # the process of one round
        import uvloop

        args = (options.streams, options.tokens, options.step_ms / 1e3, options.profile)
        print(json.dumps(uvloop.run(measure(*args))))
        return
    command += ["--streams", str(options.streams), "--tokens", str(options.tokens)]
    command += ["--step-ms", str(options.step_ms), *(["--profile"] if options.profile else [])]
    costs = []
    for _ in range(options.rounds):
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        costs.append(json.loads(said.splitlines()[-1]))
        if options.profile:
            print(said)
    least, first = (min(figures) for figures in zip(*costs, strict=True))
    print(
        f"front process of rvc: {least:.1f} us of CPU a token at {options.streams} streams of "
        f"{options.tokens} tokens, so {1e6 / least:,.0f} tokens/s a core; of those that "
        f"come while as many others stream, the first byte after {first:.0f} ms (rounds: "
        f"{', '.join(f'{cost:.1f} us and {ms:.0f} ms' for cost, ms in costs)})",
        flush=True,
    )


if __name__ == "__main__":
    main()
