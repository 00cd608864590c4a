"""A split in a server whose requests all pass through its process: the HTTP of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.local_server import LocalServer
from backends.api.service import ServedModel, Service
from backends.api.splits import ARM_HEADER, SPLIT_PATH, local
from backends.cli import bind
from backends.settings.split import Arm, Split, SplitOptions
from tests.backends.test_api_http import CHAT, FakeEngine, FakeRenderer

OPTIONS = SplitOptions((Split("chat", (Arm("v1", 90.0), Arm("v2", 10.0))),), sizes=(("70b", "v2"),))
BODY = {"messages": [{"role": "user", "content": "q"}]}


@pytest.fixture
async def served() -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    renderer: Any = FakeRenderer()
    engines = {name: FakeEngine() for name in ("v1", "v2")}
    models = [
        ServedModel(name, name, renderer, Admission([engine], 0), 100) for name, engine in engines.items()
    ]
    service, server, listener = Service(models), HttpServer("key"), bind("127.0.0.1", 0)
    await server.start(listener)
    splits, chooser = local(OPTIONS, service)
    server.serve(service, Control("test", [service], splits=splits), chooser)
    url, headers = f"http://127.0.0.1:{listener.getsockname()[1]}", {"Authorization": "Bearer key"}
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, headers=headers) as client:
        yield client, service
        await LocalServer(server, service).close(0)


async def ask(client: httpx.AsyncClient, service: Service, **more: Any) -> httpx.Response:
    for model in service.models.values():
        engine: Any = model.admission.engines[0]
        if engine.script.empty():
            engine.say("a")
    return await client.post(CHAT, json={**BODY, **more})


async def test_answers_name_their_arm_and_shares_are_changed(
    served: tuple[httpx.AsyncClient, Service],
) -> None:
    client, service = served
    counts = Counter([(await ask(client, service, model="chat")).headers[ARM_HEADER] for _ in range(60)])
    assert counts["v1"] > counts["v2"]
    answer = await client.post(SPLIT_PATH, json={"shares": {"v2": 100}})
    assert answer.status_code == 200
    assert (await client.get(SPLIT_PATH)).json() == answer.json()
    answer = await ask(client, service, model="chat")
    assert (answer.json()["model"], answer.headers[ARM_HEADER]) == ("v2", "v2")
    stream = await ask(client, service, model="chat", stream=True)
    assert stream.headers[ARM_HEADER] == "v2"
    assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == ["v1", "v2", "chat"]


async def test_refusals_name_their_arm_too(served: tuple[httpx.AsyncClient, Service]) -> None:
    client, service = served
    service.stop_admitting()
    answer = await client.post(CHAT, json={**BODY, "model": "chat"})
    assert answer.status_code == 503
    assert answer.headers[ARM_HEADER] in ("v1", "v2")


async def test_sizes_and_unknown_names(served: tuple[httpx.AsyncClient, Service]) -> None:
    client, service = served
    assert (await ask(client, service, model_size="70b")).json()["model"] == "v2"
    for body in ({"model": "nope"}, {"model_size": "13b"}):
        answer = await ask(client, service, **body)
        assert (answer.status_code, ARM_HEADER in answer.headers) == (404, False)
    assert (await client.post(SPLIT_PATH, json={}, headers={"Authorization": ""})).status_code == 401


async def test_a_server_that_splits_nothing_says_so() -> None:
    renderer: Any = FakeRenderer()
    service = Service([ServedModel("m", "m", renderer, Admission([FakeEngine()], 0), 100)])
    control = Control("test", [service])
    told = await control.answer(SPLIT_PATH)
    assert told is not None
    assert told[1] == b'{"splits":[]}'
    await service.close()
