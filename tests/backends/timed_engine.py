"""Topology rvc, whole, with an engine that takes a fixed time for each token in the place of vLLM's: real
Ray actors, placement groups and router. ``python -m tests.backends.timed_engine`` is `python -m backends`
with it, on a cluster that has eight units of the resource `slot`."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

import orjson
from aiohttp import web

from backends.api.metrics import Metrics
from backends.engines.protocol import Delta, EngineInfo, EngineState, Finish, Timings
from backends.router.fleet import Served

SLOTS = 8
PLACES = 4
TOKEN_S = 0.05


class TimedActor:
    """In the place of VllmActor. ``PLACES`` requests at once get a token each ``TOKEN_S``; others wait."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec
        self._places = asyncio.Semaphore(PLACES)
        self._metrics = Metrics()
        self._running = self._waiting = 0
        self._runner: web.AppRunner | None = None
        self.info = EngineInfo(
            *(spec.engine, "timed", spec.model, socket.gethostname(), os.getpid(), ("cpu",), "float32"),
            concurrency=PLACES,
            max_model_len=4096,
            own_queue=True,
        )

    async def where(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def load(self) -> None: ...

    async def warm_up(self) -> None: ...

    async def serve(self) -> Served:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._page)
        app.router.add_get("/rvtop/topology", self._topology)
        self._metrics.add_engine(self.info)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(self._runner, listener).start()
        return Served(listener.getsockname()[:2], self.info, self._spec.source)

    async def died(self) -> str:
        await asyncio.Event().wait()
        return ""

    async def drain(self, grace_s: float) -> None: ...

    async def act(self, action: str) -> bool | None:
        return None

    async def close(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def log_lines(self) -> list[str]:
        return []

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        assert body["model"] == self._spec.model
        arrived, asked = time.perf_counter(), int(body["max_tokens"])
        record = self._metrics.request(self.info, arrived)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._waiting += 1
        async with self._places:
            self._waiting -= 1
            self._running += 1
            began = time.perf_counter()
            try:
                for made in range(1, asked + 1):
                    await asyncio.sleep(began + made * TOKEN_S - time.perf_counter())
                    if made == 1:
                        await response.prepare(request)
                        first = time.perf_counter()
                    finish = None
                    if made == asked:
                        took = (began - arrived, first - began, time.perf_counter() - first)
                        finish = Finish("length", timings=Timings(*(1e3 * s for s in took)))
                    record.delta(Delta("t ", (made,), finish), 8, 0.0)
                    await response.write(_event(self._spec.model, "t ", None if finish is None else "length"))
            finally:
                self._running -= 1
        usage = {"prompt_tokens": 8, "completion_tokens": asked, "total_tokens": 8 + asked}
        await response.write(b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _page(self, _: web.Request) -> web.Response:
        self._metrics.set_state(self.info, EngineState("ready", self._running, self._waiting))
        self._metrics.set_waiting(self.info.engine, self.info.model, self._waiting)
        return web.Response(text=self._metrics.page())

    async def _topology(self, _: web.Request) -> web.Response:
        row = {"engine": self.info.engine, "model": self.info.model, "concurrency": PLACES, "state": "ready"}
        return web.json_response({"engines": [row | {"node": self.info.node, "pid": self.info.pid}]})


def _event(model: str, text: str, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return (
        b"data: "
        + orjson.dumps({"object": "chat.completion.chunk", "model": model, "choices": [choice]})
        + b"\n\n"
    )


def main() -> None:
    """`python -m backends`, with the engine and the resource."""
    from backends import __main__ as backends_main
    from backends.cluster import cluster, vllm_fleet
    from tests.backends import timed_engine

    init = cluster._init
    cluster._init = lambda address, **settings: init(address, resources={"slot": SLOTS}, **settings)
    vllm_fleet.VllmActor = timed_engine.TimedActor  # type: ignore[misc,assignment]
    backends_main.main()


if __name__ == "__main__":
    main()
