"""The service and its aiohttp adapter, with a fake engine whose every step the test decides."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from backends.api import arrival
from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.local_server import LocalServer
from backends.api.metrics import Metrics
from backends.api.service import ServedModel, Service
from backends.cli import bind
from backends.engines.protocol import Delta, EngineInfo, EngineState, Finish, GenerateRequest, Timings
from backends.errors import ApiError, EngineError, EngineRefusal, EngineUnavailable

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": True}


class FakeRenderer:
    async def chat(
        self, messages: Any, tools: Any = (), add_generation_prompt: bool = True
    ) -> tuple[int, ...]:
        return (1, 2, 3)

    async def prompt(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        return (1, 2) if isinstance(prompt, str) else prompt

    def close(self) -> None:
        return None


class FakeEngine:
    """Gives out what the test puts in: deltas, or an exception to raise."""

    def __init__(self) -> None:
        self.info = EngineInfo("e0", "fake", "m", "n", 1, ("cpu",), "float32", 1, 100)
        self.script: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self.requests: list[GenerateRequest] = []
        self.running = 0
        self.ended = asyncio.Event()
        self.closed = False

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        self.running += 1
        self.ended.clear()
        try:
            while True:
                item = await self.script.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish is not None:
                    return
        finally:
            self.running -= 1
            self.ended.set()

    async def cancel(self, request_id: str) -> None:
        self.script.put_nowait(EngineError("cancelled"))

    async def state(self) -> EngineState:
        return EngineState("ready", self.running, 0)

    async def close(self) -> None:
        self.closed = True
        if self.running:
            self.script.put_nowait(EngineUnavailable("the engine is stopping"))

    def say(self, *texts: str, finish: str | None = "stop") -> None:
        for text in texts:
            self.script.put_nowait(Delta(text, (5,)))
        if finish:
            self.script.put_nowait(Delta("", (6,), Finish(finish, None, Timings(1.0, 2.0, 3.0))))


class FakeRetrieval:
    async def expand(self, messages: Any, top_k: int, took: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "content": f"{top_k} chunks"}]


class Setup:
    """A running server, its fake engine and a client."""

    def __init__(self, server: HttpServer, service: Service, engine: FakeEngine, client: httpx.AsyncClient):
        self.server, self.service, self.engine, self.client = server, service, engine, client
        self.front = LocalServer(server, service)

    async def metric(self, name: str) -> float:
        page = (await self.client.get("/metrics")).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


@asynccontextmanager
async def running(
    max_queue: int | None = 8,
    api_key: str | None = None,
    retrieval: Any = None,
    serve: bool = True,
    **http: Any,
) -> AsyncIterator[Setup]:
    engine = FakeEngine()
    renderer: Any = FakeRenderer()
    model = ServedModel("m", "m", renderer, Admission([engine], max_queue), 100)
    service = Service([model], metrics=Metrics(), retrieval=retrieval)
    server = HttpServer(api_key, **http)
    listener = bind("127.0.0.1", 0)
    await server.start(listener)
    if serve:
        server.serve(service, Control("test", [service]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        try:
            yield Setup(server, service, engine, client)
        finally:
            await LocalServer(server, service).close(0)


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


def events(raw: str) -> list[Any]:
    return [
        event.removeprefix("data: ") if "[DONE]" in event else json.loads(event.removeprefix("data: "))
        for event in raw.strip().split("\n\n")
    ]


async def test_each_token_leaves_when_it_is_made() -> None:
    async with running() as s:
        s.engine.say("가", finish=None)  # headers come with the first token
        async with s.client.stream("POST", CHAT, json=BODY) as response:
            chunks = response.aiter_bytes()
            assert "가" in (await anext(chunks)).decode()
            for text in ("나", "다"):
                s.engine.say(text, finish=None)
                assert text in (await anext(chunks)).decode()
            s.engine.say()
            assert [chunk async for chunk in chunks][-1].endswith(b"data: [DONE]\n\n")


async def test_whole_answer_and_timings() -> None:
    async with running() as s:
        s.engine.say("a", "b")
        answer = await s.client.post(CHAT, json={**BODY, "stream": False, "rvtop": {"timings": True}})
        assert answer.status_code == 200
        body = answer.json()
        assert body["choices"][0]["message"]["content"] == "ab"
        assert body["usage"]["completion_tokens"] == 3
        timings = body["usage"]["rvtop"]
        assert timings["engine"] == "e0"
        assert timings["queue_ms"] >= 1.0
        assert (timings["retrieve_ms"], timings["prefill_ms"], timings["decode_ms"]) == (None, 2.0, 3.0)
        assert timings["router_ms"] is None
        s.engine.say()
        stamp = f"{time.time_ns() // 1000 - 250_000} {arrival.machine()}"
        body = {**BODY, "stream": False, "rvtop": {"timings": True}}
        answer = await s.client.post(CHAT, json=body, headers={arrival.HEADER: stamp})
        assert answer.json()["usage"]["rvtop"]["router_ms"] >= 250.0


async def test_a_clients_trace_goes_to_the_engine_and_nothing_else_does() -> None:
    trace = {"traceparent": f"00-{5:032x}-{7:016x}-01", "tracestate": "a=b"}
    async with running() as s:
        for headers in ({**trace, "X-Mine": "1"}, {"X-Mine": "1"}):
            s.engine.say("a")
            assert (await s.client.post(CHAT, json=BODY, headers=headers)).status_code == 200
        assert [request.trace for request in s.engine.requests] == [trace, None]


async def test_retrieval_is_timed_and_only_for_chat() -> None:
    async with running(retrieval=FakeRetrieval()) as s:
        s.engine.say()
        body = {**BODY, "stream": False, "rag": {"top_k": 2}, "rvtop": {"timings": True}}
        answer = await s.client.post(CHAT, json=body)
        assert answer.json()["usage"]["rvtop"]["retrieve_ms"] >= 0
        refused = await s.client.post("/v1/completions", json={"prompt": "q", "rag": {}})
        assert refused.status_code == 400
    async with running() as s:
        refused = await s.client.post(CHAT, json=body)
        assert refused.status_code == 400
        assert "--index" in refused.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_several_choices_are_several_generations(stream: bool) -> None:
    async with running() as s:
        for text in ("a", "b", "c", "d"):
            s.engine.say(text)
        body = {"prompt": ["q", [4, 5]], "n": 2, "seed": 7, "max_tokens": 5, "stream": stream}
        answer = await s.client.post("/v1/completions", json=body)
        assert answer.status_code == 200
        parts = events(answer.text)[:-1] if stream else [answer.json()]
        choices = [choice for part in parts for choice in part["choices"]]
        texts = ["".join(c["text"] for c in choices if c["index"] == index) for index in range(4)]
        assert sorted(texts) == ["a", "b", "c", "d"]
        assert len({request.request_id for request in s.engine.requests}) == 4
        asked = sorted((request.prompt_ids, request.seed) for request in s.engine.requests)
        assert asked == [((1, 2), 7), ((1, 2), 8), ((4, 5), 7), ((4, 5), 8)]


async def test_a_failure_of_one_choice_ends_them_all() -> None:
    async with running() as s:
        s.engine.script.put_nowait(EngineError("boom"))
        answer = await s.client.post(CHAT, json={**BODY, "stream": False, "n": 3})
        assert answer.status_code == 500
        await until(lambda: s.engine.running == 0 and s.service.models["m"].admission.queued == 0)
        s.engine.say("next")
        assert (await s.client.post(CHAT, json={**BODY, "stream": False})).status_code == 200


async def test_choices_have_to_fit_into_the_queue() -> None:
    async with running(max_queue=2) as s:
        never = await s.client.post(CHAT, json={**BODY, "n": 4})
        assert never.status_code == 400
        assert "at most 3" in never.json()["error"]["message"]
        first = asyncio.create_task(s.client.post(CHAT, json=BODY))
        await until(lambda: s.engine.running == 1)
        assert (await s.client.post(CHAT, json={**BODY, "n": 3})).status_code == 429
        s.engine.say("x")
        assert (await first).status_code == 200


async def test_what_the_engine_cannot_do_is_refused() -> None:
    async with running() as s:
        tools = [{"type": "function", "function": {"name": "f"}}]
        for fields, param, words in (
            ({"logprobs": True, "top_logprobs": 3}, "logprobs", "max allowed: 0"),
            ({"tools": tools}, "tools", "rvc"),
        ):
            answer = await s.client.post(CHAT, json={**BODY, **fields})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == param
            assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_the_engine(stream: bool) -> None:
    async with running() as s:
        request = s.client.build_request("POST", CHAT, json={**BODY, "stream": stream})
        sending = asyncio.create_task(s.client.send(request, stream=True))
        await until(lambda: s.engine.running == 1)
        s.engine.say("x", finish=None)
        if stream:
            response = await sending
            await anext(response.aiter_bytes())
            await response.aclose()
        else:
            await asyncio.sleep(0.05)
            sending.cancel()
        await asyncio.wait_for(s.engine.ended.wait(), 120)
        async with asyncio.timeout(120):
            while not await s.metric('rvtop:request_success_total{engine="e0",finished_reason="abort"'):
                await asyncio.sleep(0.005)
        s.engine.say("next")  # and the next one gets it
        assert (await s.client.post(CHAT, json={**BODY, "stream": False})).status_code == 200


async def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async with running() as s:
        first = asyncio.create_task(s.client.post(CHAT, json=BODY))
        await until(lambda: s.engine.running == 1)
        second = asyncio.create_task(s.client.post(CHAT, json=BODY))
        queue = s.service.models["m"].admission
        await until(lambda: queue.queued == 1)
        assert await s.metric("rvtop:num_requests_waiting{") == 1
        second.cancel()
        await until(lambda: queue.queued == 0)
        s.engine.say("x")
        await first
        assert len(s.engine.requests) == 1


async def test_a_full_queue_is_429() -> None:
    async with running(max_queue=1) as s:
        tasks = [asyncio.create_task(s.client.post(CHAT, json=BODY)) for _ in range(2)]
        await until(lambda: s.service.models["m"].admission.queued == 1)
        refused = await s.client.post(CHAT, json=BODY)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("TooManyRequestsError", 429)
        s.engine.say("x")
        s.engine.say("y")
        assert [(await task).status_code for task in tasks] == [200, 200]


async def test_failures_before_the_first_token_have_their_status() -> None:
    async with running() as s:
        for failure, status in (
            (EngineError("boom"), 500),
            (EngineRefusal("no"), 400),
            (EngineUnavailable("restarting"), 503),
        ):
            s.engine.script.put_nowait(failure)
            answer = await s.client.post(CHAT, json=BODY)
            assert answer.status_code == status
            assert str(failure) in answer.json()["error"]["message"]
        assert await s.metric('rvtop:request_success_total{engine="e0",finished_reason="error"') == 3
        s.service.models["m"].admission.set_up("e0", False)
        assert (await s.client.post(CHAT, json=BODY)).status_code == 503
        assert (await s.client.get("/health")).status_code == 503


async def test_a_failure_in_the_stream_is_an_event() -> None:
    async with running() as s:
        s.engine.say("x", finish=None)
        s.engine.script.put_nowait(EngineError("boom"))
        answer = await s.client.post(CHAT, json=BODY)
        assert answer.status_code == 200
        assert events(answer.text)[-2]["error"]["message"] == "boom"
        assert events(answer.text)[-1] == "[DONE]"


async def test_errors_have_openais_shape() -> None:
    async with running(max_body_bytes=1000) as s:
        for answer, status, kind in (
            (await s.client.post(CHAT, json={**BODY, "model": "x"}), 404, "NotFoundError"),
            (await s.client.post(CHAT, content=b"{"), 400, "BadRequestError"),
            (await s.client.post(CHAT, content=b" " * 2000), 413, "BadRequestError"),
            (await s.client.get("/nope"), 404, "Not Found"),
            (await s.client.get(CHAT), 405, "Method Not Allowed"),
        ):
            assert answer.status_code == status
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["code"]) == (kind, status)
        assert await s.metric("rvtop:generation_tokens_total") == 0


async def test_a_bug_is_a_500_that_tells_no_secrets() -> None:
    async with running() as s:
        s.engine.script.put_nowait(RuntimeError("secret detail"))
        answer = await s.client.post(CHAT, json=BODY)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        s.engine.say("x", finish=None)
        s.engine.script.put_nowait(RuntimeError("secret detail"))
        answer = await s.client.post(CHAT, json=BODY)
        assert events(answer.text)[-2]["error"]["code"] == 500
        assert "secret" not in answer.text


async def test_the_key_guards_everything_but_health() -> None:
    async with running(api_key="k3y") as s:
        for path in ("/v1/models", "/metrics", "/rvtop/topology"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "k3y"}):
                answer = await s.client.get(path, headers=headers)
                assert answer.status_code == 401
                assert "k3y" not in answer.text
            assert (await s.client.get(path, headers={"Authorization": "Bearer k3y"})).status_code == 200
        assert (await s.client.post(CHAT, json=BODY)).status_code == 401
        assert (await s.client.get("/health")).status_code == 200


async def test_before_it_serves_it_says_so() -> None:
    async with running(serve=False) as s:
        for answer in (await s.client.get("/health"), await s.client.post(CHAT, json=BODY)):
            assert answer.status_code == 503
            assert "starting" in answer.json()["error"]["message"]


async def test_stopping_lets_what_runs_finish() -> None:
    async with running() as s:
        first = asyncio.create_task(s.client.post(CHAT, json=BODY))
        await until(lambda: s.engine.running == 1)
        second = asyncio.create_task(s.client.post(CHAT, json=BODY))
        await until(lambda: s.service.models["m"].admission.queued == 1)
        closing = asyncio.create_task(s.front.close(120))
        assert (await second).status_code == 503
        s.engine.say("x")
        assert events((await first).text)[-1] == "[DONE]"
        await asyncio.wait_for(closing, 120)
        assert s.engine.closed
        with pytest.raises(httpx.ConnectError):
            await s.client.get("/health")


async def test_stopping_cuts_what_takes_too_long() -> None:
    async with running() as s:
        s.engine.say("x", finish=None)
        first = asyncio.create_task(s.client.post(CHAT, json=BODY))
        await until(lambda: s.engine.running == 1 and s.engine.script.empty())
        await asyncio.wait_for(s.front.close(0), 120)
        assert events((await first).text)[-2]["error"]["code"] == 503


async def test_control_paths_know_the_engine() -> None:
    async with running() as s:
        rows = (await s.client.get("/rvtop/topology")).json()["engines"]
        assert rows[0] | {"engine": "e0", "state": "ready", "running": 0, "devices": ["cpu"]} == rows[0]
        assert (await s.client.get("/v1/models")).json()["data"][0]["id"] == "m"
        refused = await s.client.post("/reset_prefix_cache")  # this engine has none
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, 404)
        assert (await s.client.get("/reset_prefix_cache")).status_code == 405


def test_api_errors_are_exceptions_with_a_message() -> None:
    assert str(ApiError(400, "what")) == "what"
