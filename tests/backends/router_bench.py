"""A real router between an HTTP client and engines that only pretend."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from backends.cli import bind
from backends.router.router import Router
from backends.settings.split import NO_SPLITS, SplitOptions
from tests.backends.fake_engine import FakeEngine, engines

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
TOKEN = "run-token"


@dataclass
class Bench:
    router: Router
    client: httpx.AsyncClient
    control: FakeEngine
    engines: list[FakeEngine]
    listener: socket.socket

    async def ask(self, path: str = CHAT, **body: Any) -> str:
        """Who answered: the engine's name, or ``STATUS`` of an error."""
        answer = await self.client.post(path, json=body)
        return answer.headers.get("x-engine") or str(answer.status_code)


async def bench_of(
    models: list[tuple[str, list[str]]],
    api_key: str | None = None,
    place: bool = True,
    sockets: dict[str, str] | None = None,
    all_paths: bool = False,
    splits: SplitOptions = NO_SPLITS,
    adapters: str = "",
) -> AsyncIterator[Bench]:
    listener = bind("127.0.0.1", 0)
    names = [slot for _, slots in models for slot in slots]
    async with engines(*names) as made:
        how = {
            "api_key": api_key,
            "sockets": sockets,
            "all_paths": all_paths,
            "splits": splits,
            "adapters": adapters,
        }
        router = Router(listener, models, token=TOKEN, **how)  # type: ignore[arg-type]
        control = await FakeEngine("control").serve(router.control)
        try:
            await router.start()
            if place:
                for engine in made:
                    await router.place(engine.name, engine.address)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
                yield Bench(router, client, control, made, listener)
        finally:
            await control.close()
            await router.close()
