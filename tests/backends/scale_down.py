"""A Serve application of ours is scaled down while each of its two replicas streams a long answer. Runs in a
process of its own, on a cluster of its own; prints one JSON line: how each stream ended.

    python -m tests.backends.scale_down rsc|rsv MODEL_FOLDER
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import aiohttp

from backends.cli import parse_options
from backends.cluster.cluster import ResourceShare, open_cluster
from backends.cluster.hf_actor import engine_spec
from backends.engines.vllm_args import Made
from backends.process.events import Steps
from backends.serve import llm_app, serve
from backends.serve.model_app import App
from backends.serve.replica import application

APP, PREFIX, TOKEN = "rvtop-test-0", "/rvtop-test/0", "t"
TOKENS = 300
LIMIT_S = 900.0
# Longer than Serve waited for a retired replica before its grace was an option, and than it waits by default.
STANDSTILL_S = {"rsc": 6.0, "rsv": 21.0}
DEPLOYMENT = {"rsc": "hf", "rsv": f"{serve.LLM_SERVER}tiny"}


async def main(topology: str, model: str) -> dict[str, Any]:
    options, *_ = parse_options([topology, "--model", f"tiny={model}", "--dtype", "float32"])
    cluster = await open_cluster(options, Steps(lambda event, **fields: None))
    streams: list[asyncio.Task[int]] = []
    try:
        head = (await cluster.nodes())[0]
        await asyncio.to_thread(serve.start, head)
        await deploy(options, 2)
        proxy = (await asyncio.to_thread(serve.proxies, [head]))[0]
        begun = [asyncio.Event(), asyncio.Event()]
        streams = [asyncio.create_task(stream(proxy, event)) for event in begun]
        async with asyncio.timeout(LIMIT_S):
            for event in begun:
                await event.wait()
        engines = serve.replicas(APP, DEPLOYMENT[topology])
        pids = [(await serve.replica(name).is_allocated.remote())[0] for name in engines]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # so that neither answer has ended when its replica is retired
        await deploy(options, 1, wait=False)
        async with asyncio.timeout(LIMIT_S):
            while "STOPPING" not in await states(topology):
                await asyncio.sleep(0.05)
        await asyncio.sleep(STANDSTILL_S[topology])
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        tokens = await asyncio.wait_for(asyncio.gather(*streams, return_exceptions=True), LIMIT_S)
        async with asyncio.timeout(LIMIT_S):
            while await states(topology) != {"RUNNING": 1}:
                await asyncio.sleep(0.05)
        return {"replicas": len(set(pids)), "ended": [repr(each) for each in tokens]}
    finally:
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await cluster.close()


async def deploy(options: Any, count: int, wait: bool = True) -> None:
    share = ResourceShare("tiny", 0.5, 0.0, 1)
    if options.topology == "rsc":
        app = application(
            engine_spec(0, share, options), options, TOKEN, {"num_cpus": 0.5}, app_of(share, count)
        )
    else:
        path = options.models[0].source
        given = dict(llm_app.arguments(options, share, path))
        kwargs = {"dtype": given["dtype"], "enforce_eager": True, "kv_cache_memory_bytes": 2**28}
        checked = llm_app.Checked(kwargs, Made("float32", 8, 4096))
        config = llm_app.llm_config(options, share, path, count, checked, llm_app.environ(options, share))
        app = await asyncio.to_thread(llm_app.application, config, False)
    await asyncio.to_thread(serve.deploy, {APP: (PREFIX, app)})
    async with asyncio.timeout(LIMIT_S):
        while wait and not await asyncio.to_thread(serve.check_deployed, [APP]):
            await asyncio.sleep(0.1)


def app_of(share: ResourceShare, count: int) -> App:
    return App(APP, PREFIX, "tiny", "", share, count)


async def states(topology: str) -> dict[str, int]:
    """How many replicas are in each of Serve's states."""
    from ray import serve

    status = await asyncio.to_thread(serve.status)
    found = status.applications[APP].deployments[DEPLOYMENT[topology]].replica_states
    return {str(getattr(state, "value", state)): number for state, number in found.items()}


async def stream(proxy: tuple[str, int], begun: asyncio.Event) -> int:
    """The answer's tokens, once it has ended well."""
    body = {"prompt": "휴가", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    url = f"http://{proxy[0]}:{proxy[1]}{PREFIX}/v1/completions"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    last = b""
    async with (
        aiohttp.ClientSession(headers=headers, trust_env=False, timeout=aiohttp.ClientTimeout()) as http,
        http.post(url, json={**body, "stream_options": {"include_usage": True}}) as answer,
    ):
        async for line in answer.content:
            begun.set()
            if line.startswith(b"data: {"):
                last = line
    return int(json.loads(last.removeprefix(b"data: "))["usage"]["completion_tokens"])


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints is no answer
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))), file=answers, flush=True)
