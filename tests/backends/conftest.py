"""Fixtures of the backends' tests: the local model, and processes that do not outlive their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from backends.registry import REGISTRY
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import MAX_QUEUE
from tests.backends.differences import DIFFERENCES, NOT_NOW, SLOW, TOOLS
from tests.backends.reference import Reference, load, made
from tests.deferred import Deferred

if TYPE_CHECKING:
    from openai import AsyncOpenAI

openai = Deferred("openai")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the backend fixture whose topology is known to differ have to fail; what it passes by chance
    is left out."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        for part, why in DIFFERENCES.get(params.get("backend"), ()):
            if part in item.name:
                item.add_marker(pytest.mark.xfail(reason=why, strict=True))
        for part, why in NOT_NOW.get(params.get("backend"), ()):
            if part in item.name:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The local model, built on first use and cached beyond the session."""
    from backends.models.tiny.tiny import ensure_model

    return ensure_model("tiny")


Launch = Callable[..., BackendProcess]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts backends that do not outlive the test."""
    started: list[BackendProcess] = []

    def start(*args: str, env: dict[str, str] | None = None) -> BackendProcess:
        started.append(BackendProcess(*args, log=tmp_path / f"backend-{len(started)}.log", env=env))
        return started[-1]

    yield start
    for backend in started:
        backend.kill()


def _param(topology: str) -> object:
    return pytest.param(topology, marks=pytest.mark.slow if topology in SLOW else ())


@pytest.fixture(scope="session", params=[_param(topology) for topology in REGISTRY])
def backend(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackendProcess]:
    """One process for all tests of a topology. Its end is a test too: with its lease it stops at once."""
    log = tmp_path_factory.mktemp("conformance") / f"{request.param}.log"
    process = BackendProcess(
        *(request.param, "--lease", "--model", f"tiny={tiny_model}", "--max-queue", str(MAX_QUEUE)),
        *("--engine-concurrency", "1", "--dtype", "float32", "--threads", "1"),
        *("--index", "sample", *TOOLS.get(request.param, ())),
        *(("--grpc", "0") if "rpc" in REGISTRY[request.param].flags else ()),
        log=log,
    )
    try:
        url = process.url
        yield process
        process.end_lease()
        assert process.wait() == 0
        assert process.garbage == []
        assert process.events[-2]["event"] == "stopped"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", trust_env=False)
    finally:
        process.kill()


@pytest.fixture
async def client(backend: BackendProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=backend.url, timeout=240, trust_env=False) as client:
        yield client


@pytest.fixture
async def ai(backend: BackendProcess) -> AsyncIterator[AsyncOpenAI]:
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        openai.AsyncOpenAI(
            base_url=f"{backend.url}/v1", api_key="none", max_retries=0, http_client=http
        ) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def reference_model(tiny_model: Path) -> Callable[[], Any]:
    """Gives the model through Transformers alone: (model, tokenizer). Read when first asked for."""
    return cache(lambda: load(tiny_model))


@pytest.fixture(scope="session")
def reference(tiny_model: Path, reference_model: Callable[[], Any]) -> Reference:
    """What Transformers alone says. (An answer of one repeated token, or the same to everything, would prove
    nothing.)"""
    found = made(tiny_model, reference_model)
    sequences = found.parity
    assert all(len(set(sequence.answer)) >= len(sequence.answer) // 4 for sequence in sequences)
    assert len({sequence.answer for sequence in sequences}) >= len(sequences) // 2
    assert all(len(set(sequence.answer)) >= 16 for sequence in found.answers)
    return found
