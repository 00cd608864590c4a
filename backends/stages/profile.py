"""``--auto``: loads the stages for a while, and measures what each computes for a request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from backends.corpus import sample
from backends.errors import StartFailure
from backends.settings.graph import LLM
from backends.stages.analyze import LABELS
from backends.stages.fleet import GraphFleet
from backends.stages.split import Work

#: Requests that are under way at once, so that batches form.
_AT_ONCE = 4
#: Tokens of an answer of the profile.
TOKENS = 64
_TOP_K = 4

Place = tuple[str, int, str]  # host, port, model


async def warm_up(fleet: GraphFleet, token: str) -> None:
    """One request through each LLM replica and all stages: what is loaded lazily is loaded then. Raises
    StartFailure."""
    places = await _places(fleet)
    if not places:
        raise StartFailure("no LLM replica answers; see the log")
    async with _client(token) as http:
        for place in places:
            await _once(fleet, http, place, "warm-up", 2, 1)


async def profile(
    fleet: GraphFleet, seconds: float, token: str, concurrency: int
) -> tuple[dict[str, Work], float]:
    """The work of each stage, and the requests a second that passed. Questions of the sample corpus, with
    answers of ``TOKENS`` tokens; as many texts for ``/analyze`` where there is one. ``concurrency`` is how
    many requests an LLM computes at once. Raises StartFailure when one fails."""
    before, places = await _busy(fleet), await _places(fleet)
    questions = itertools.cycle(question.text for question in sample.questions())
    llm_ms: list[float] = []
    began = time.monotonic()

    async def load(http: aiohttp.ClientSession, first: int) -> None:
        for place in itertools.cycle([*places[first:], *places[:first]]):
            llm_ms.append(await _once(fleet, http, place, next(questions), TOKENS, concurrency))
            if time.monotonic() - began >= seconds:
                return

    async with _client(token) as http:
        loads = [asyncio.create_task(load(http, number % len(places))) for number in range(_AT_ONCE)]
        try:
            await asyncio.gather(*loads)
        finally:
            for one in loads:
                one.cancel()
    took = time.monotonic() - began
    after = await _busy(fleet)
    work = {LLM: Work(sum(llm_ms) / len(llm_ms), len(llm_ms))}
    for stage, (busy_ms, items) in after.items():
        passed = items - before[stage][1]
        if passed > 0:
            work[stage] = Work((busy_ms - before[stage][0]) / passed, passed)
    return {stage: work[stage] for stage in fleet.stages() if stage in work}, len(llm_ms) / took


def _client(token: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, trust_env=False)


async def _places(fleet: GraphFleet) -> list[Place]:
    """Where LLM replicas answer, each with its model."""
    told = await fleet.replicas_of(LLM)
    return [(*one["address"], one["row"]["model"]) for one in told if one["row"]["state"] == "ready"]


async def _once(
    fleet: GraphFleet, http: aiohttp.ClientSession, place: Place, text: str, tokens: int, concurrency: int
) -> float:
    """One request through all stages. Returns the milliseconds for which it had its engine, of which
    ``concurrency`` requests may share one."""
    host, port, model = place
    took = await _ask(http, host, port, _body(model, text, tokens, rag="search" in fleet.stages()))
    if "merge" in fleet.stages():
        await fleet.analyze(text, {name: list(words) for name, words in LABELS.items()}, False)
    return took / concurrency


async def _busy(fleet: GraphFleet) -> dict[str, tuple[float, int]]:
    """Milliseconds of computing and requests of each stage but the LLM, since its start."""
    found = {}
    for stage in fleet.stages():
        if stage != LLM:
            rows = [told["row"] for told in await fleet.replicas_of(stage)]
            found[stage] = sum(r.get("busy_ms", 0.0) for r in rows), sum(r.get("items", 0) for r in rows)
    return found


def _body(model: str, question: str, tokens: int, *, rag: bool) -> Mapping[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "rvtop": {"timings": True},
        **({"rag": {"top_k": _TOP_K}} if rag else {}),
    }


async def _ask(http: aiohttp.ClientSession, host: str, port: int, body: Mapping[str, Any]) -> float:
    """Milliseconds of prefill and decode. Raises StartFailure."""
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with http.post(f"http://{at}/v1/chat/completions", json=body) as answer:
            status, told = answer.status, await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise StartFailure(f"the LLM at {at} does not answer: {error!r}") from error
    if status != 200:
        raise StartFailure(f"the LLM at {at} answered {status}: {str(told)[:200]}")
    timings = told["usage"]["rvtop"]
    return float(timings["prefill_ms"] + timings["decode_ms"])
