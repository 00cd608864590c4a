"""What a phase asks of its server before it begins: real answers over HTTP, and a session that waits for
them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import web

from rvtop.load.plan.phase_plan import PhasePlan
from rvtop.net.transport import Transport
from rvtop.session.phase_knobs import PhaseKnobs
from rvtop.session.player import Player
from rvtop.target.acts import RESET, START_PROFILE, act, server_facts, without_secrets
from rvtop.target.probe import TargetInfo
from tests.faults.sessions import Watched, request

SECRET = "sk-very-secret"


class Server:
    """A server that serves completions of two chunks, and what vLLM serves beside them. ``seen``: what was
    asked for, in its order; ``answers`` are by path."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.open = 0
        self.answers: dict[str, tuple[int, Any]] = {
            "/reset_prefix_cache": (200, {"success": True}),
            "/start_profile": (200, None),
            "/stop_profile": (200, None),
            "/version": (200, {"version": "0.29.0"}),
            "/server_info": (
                200,
                {
                    "vllm_config": f"max_num_batched_tokens=2048, hf_token='{SECRET}', dtype=float32",
                    "vllm_env": {"VLLM_API_KEY": SECRET, "VLLM_PORT": 8000, "VLLM_HOST_TOKEN": SECRET},
                    "system_env": {"os": "Linux", "pip_packages": "all of them", "torch_version": "2.13"},
                },
            ),
        }
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.path} with {self.open} open" if self.open else request.path)
        status, body = self.answers.get(request.path, (404, {"detail": "Not Found"}))
        return web.Response(status=status, body=b"" if body is None else json.dumps(body).encode())

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.seen.append("completion")
        await request.read()
        self.open += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in ({"choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "stop"}]}):
            await response.write(b"data: " + orjson.dumps(piece) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        self.open -= 1
        await response.write_eof()
        return response

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": "vllm"}]})


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/v1/models", server.models)
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, server.complete)
    for path in server.answers:
        app.router.add_route("*", path, server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def knobs_of(server: Server) -> tuple[PhaseKnobs, list[tuple[str, str]], list[dict[str, Any]]]:
    events: list[tuple[str, str]] = []
    notes: list[dict[str, Any]] = []
    info = TargetInfo(server.url, ("m",), None, "vllm")
    parts: Any = SimpleNamespace(
        target=SimpleNamespace(info=info, transport=Transport()),
        feed=SimpleNamespace(say=lambda text, level="info", kind="": events.append((level, text))),
        recorder=SimpleNamespace(note=notes.append),
        wakeup=SimpleNamespace(set=lambda: None),
    )
    return PhaseKnobs(parts), events, notes


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {"success": True}, ""),
        (200, None, ""),
        (200, {"success": False}, "the server could not: requests still hold blocks of it"),
        (404, {"detail": "Not Found"}, "VLLM_SERVER_DEV_MODE=1"),
        (409, {"error": {"message": "held\x1b[31m"}}, "HTTP 409: held"),
        (500, None, "HTTP 500"),
    ],
)
async def test_what_a_server_answers_is_one_line(status: int, body: Any, why: str) -> None:
    async with serving() as server:
        server.answers["/reset_prefix_cache"] = (status, body)
        said = await act(server.url, RESET, Transport())
    assert why in said
    assert bool(why) == bool(said)
    assert said.isprintable()


async def test_a_server_that_is_gone_is_one_line_too() -> None:
    async with serving() as server:
        url = server.url
    assert "connection refused" in await act(url, START_PROFILE, Transport())


async def test_each_phase_gets_what_it_asks_for_and_the_profiler_ends() -> None:
    async with serving() as server:
        knobs, events, notes = knobs_of(server)
        cold = PhasePlan("cold", reset_prefix_cache=True, profile=True)
        same = PhasePlan("same", profile=True)
        for phase in (cold, same, PhasePlan("plain")):
            await knobs.prepare(phase)
        await knobs.prepare(same)
        await knobs.close()
        await knobs.close()
    assert server.seen == [
        *("/reset_prefix_cache", "/start_profile"),
        "/stop_profile",
        *("/start_profile", "/stop_profile"),
    ]
    assert {level for level, _ in events} == {"info"}
    assert [note["refused"] for note in notes] == [None] * 5


async def test_what_is_refused_is_one_event_and_is_not_stopped() -> None:
    async with serving() as server:
        server.answers["/start_profile"] = (404, None)
        knobs, events, _ = knobs_of(server)
        await knobs.prepare(PhasePlan("hot", profile=True))
        await knobs.close()
    assert server.seen == ["/start_profile"]
    ((level, text),) = events
    assert level == "warn"
    assert text.startswith(
        "the profiler was not started: the server offers no POST /start_profile (HTTP 404)"
    )


def test_the_next_phase_waits_until_the_server_is_ready() -> None:
    asked: list[str | None] = []
    ready = False

    def gate(phase: PhasePlan | None) -> bool:
        asked.append(None if phase is None else phase.name)
        return ready

    player = Player((PhasePlan("a", 1, 1, 1.0), PhasePlan("b", 1, 1, 1.0)), None, gate)
    entry = player.step(0, drained=False)
    assert entry is not None
    assert asked == []
    end_ns = player.end_ns
    assert player.step(end_ns, drained=False) is None
    assert player.step(end_ns + 1, drained=True) is None
    assert player.step(end_ns + 60 * 10**9, drained=True) is None, "nothing is cut while it waits"
    assert (player.state, set(asked)) == ("draining", {"b"})
    ready = True
    begun = player.step(end_ns + 61 * 10**9, drained=True)
    assert begun is not None
    assert (begun.kind, player.state) == ("phase", "sending")


async def test_a_session_resets_the_cache_between_two_phases(tmp_path: Path) -> None:
    phases = (
        {"name": "warm", "rate": 20, "duration": "500ms", "drain": "5s"},
        {"name": "cold", "rate": 20, "duration": "500ms", "drain": "5s", "reset_prefix_cache": True},
    )
    async with serving() as server:
        watched = Watched(request(server.url, tmp_path / "run", *phases))
        outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    at = server.seen.index("/reset_prefix_cache")  # with no request open
    work = [number for number, what in enumerate(server.seen) if what == "completion"]
    assert work == [*range(2, 12), *range(13, 23)]
    assert at == 12
    begun = [row for row in watched.rows("commands.jsonl") if row["cmd"] == "phase"]
    assert [row["reset_prefix_cache"] for row in begun] == [False, True]
    about = json.loads((watched.out / "environment.json").read_text())["server"]
    assert about["version"] == "0.29.0"


async def test_what_a_server_says_of_itself_is_kept_without_secrets() -> None:
    async with serving() as server:
        facts = await server_facts(TargetInfo(server.url, ("m",), None, "vllm"), Transport())
        assert await server_facts(TargetInfo(server.url, ("m",), None, "other"), Transport()) == {}
    assert SECRET not in json.dumps(facts)
    assert "max_num_batched_tokens=2048" in facts["vllm_config"]
    assert "hf_token=***" in facts["vllm_config"]
    assert facts["vllm_env"] == {"VLLM_PORT": 8000}
    assert facts["system_env"] == {"os": "Linux", "torch_version": "2.13"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("api_key=['a', 'b'], seed=0", "api_key=***, seed=0"),
        ("'password': \"x y\", port=1", "'password': ***, port=1"),
        ("https://me:word@host/path", "https://***@host/path"),
        ("tokenizer='m', max_tokens=7, skip_tokenizer_init=False", None),
        ("eos_token_id=3", None),
    ],
)
def test_settings_that_are_named_as_secrets_lose_their_values(text: str, shown: str | None) -> None:
    assert without_secrets(text) == (text if shown is None else shown)
