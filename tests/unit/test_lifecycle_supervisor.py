"""The supervisor beside a backend that dies, is sick, or does not start as the test says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from rvtop.contract.snapshot import StartStep
from rvtop.lifecycle import state, supervisor
from rvtop.lifecycle.health import Health
from rvtop.lifecycle.start_times import StartTimes
from rvtop.lifecycle.supervisor import Policy, Spec, Supervisor
from rvtop.target.backend import BackendOptions
from rvtop.target.probe import TargetError

QUICK = Policy(
    first_delay_s=0.01,
    max_delay_s=0.04,
    healthy_s=60,
    crashes=6,
    within_s=600,
    health_s=0.01,
    grace_s=0.1,
)
LIMIT_S = 120.0


class FakeBackend:
    """Starts as ``starts`` says for each of them in turn; dies when ``death`` is set."""

    made: list[FakeBackend]
    starts: list[TargetError | str | None]

    def __init__(self, options: BackendOptions, log: Path, on_step: Callable[[StartStep], None]) -> None:
        self.options = options
        self.on_step = on_step
        self.url = "http://127.0.0.1:4242"
        self.models: tuple[str, ...] = ("tiny",)
        self.death: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.calls: list[str] = []
        self.outcome = self.starts.pop(0) if self.starts else None
        self.made.append(self)

    @property
    def pid(self) -> int | None:
        return os.getppid()

    async def start(self) -> str:
        self.on_step(StartStep("weights", "run", 0.0, "tiny"))
        if self.outcome == "never":
            await asyncio.sleep(LIMIT_S)
        if isinstance(self.outcome, TargetError):
            raise self.outcome
        return self.url

    async def wait(self) -> int:
        return await asyncio.shield(self.death)

    def log_tail(self, lines: int = 5) -> str:
        return "out of memory"

    def terminate(self) -> None:
        self.calls.append("terminate")
        if not self.death.done():
            self.death.set_result(0)

    async def stop(self) -> None:
        self.calls.append("stop")


class Watched:
    """A supervisor that runs, with what it told."""

    def __init__(self, policy: Policy) -> None:
        self.told: list[dict[str, Any]] = []
        spec = Spec("d", "no-such-mark", "rac", port=0, models=("tiny=tiny",), arguments=("--threads", "1"))
        self.supervisor = Supervisor(spec, state.make_folder("d"), self.told.append, policy, FakeBackend)
        self.task = asyncio.create_task(self.supervisor.run())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                assert not self.task.done() or condition(), (self.task, self.told)
                await asyncio.sleep(0.005)

    @property
    def backend(self) -> FakeBackend:
        return FakeBackend.made[-1]

    def known(self) -> state.Deployment:
        found = state.entry("d")
        assert found is not None
        return found

    async def up(self) -> None:
        await self.until(lambda: any(event["event"] == "ready" for event in self.told))
        self.supervisor.keep()
        self.supervisor.abandon()  # `up` ends after its last word


@pytest.fixture
async def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Watched]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(supervisor, "health", lambda url: Health(True))
    monkeypatch.setattr(supervisor, "end_members", lambda *_: [])
    FakeBackend.made, FakeBackend.starts = [], []
    made: list[Watched] = []

    def start(policy: Policy = QUICK) -> Watched:
        made.append(Watched(policy))
        return made[-1]

    yield start
    for each in made:
        each.task.cancel()
        await asyncio.gather(each.task, return_exceptions=True)


async def test_it_is_ready_and_stops_gently(watch: Callable[..., Watched]) -> None:
    it = watch()
    await it.up()
    assert [event["event"] for event in it.told] == ["step", "ready"]
    assert it.told[-1]["url"] == "http://127.0.0.1:4242"
    assert it.known().state == "ready"
    options = it.backend.options
    assert (options.topology, options.port, options.models, options.arguments) == (
        *("rac", 0, ("tiny=tiny",), ("--threads", "1")),
    )
    it.supervisor.stop()
    assert await it.task == 0
    assert it.backend.calls == ["terminate", "stop"]
    assert state.entry("d") is None


async def test_it_keeps_how_long_the_start_took(watch: Callable[..., Watched]) -> None:
    options = BackendOptions("rac", models=("tiny=tiny",), arguments=("--threads", "1"))
    assert StartTimes(options, os.environ).expected_s is None
    watched = watch()
    await watched.until(lambda: bool(watched.told) and watched.told[-1]["event"] == "ready")
    assert StartTimes(options, os.environ).expected_s is not None
    watched.supervisor.stop()
    await watched.task


async def test_a_dead_backend_comes_back_at_its_port(watch: Callable[..., Watched]) -> None:
    it = watch()
    await it.up()
    it.backend.death.set_result(3)
    await it.until(lambda: len(FakeBackend.made) == 2 and it.known().restarts == 1)
    assert it.backend.options.port == 4242
    assert it.known().state == "ready"
    assert FakeBackend.made[0].calls == ["stop"]


async def test_the_delays_double_and_it_gives_up(watch: Callable[..., Watched]) -> None:
    it = watch()
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay: float) -> None:
        if delay in (0.01, 0.02, 0.04):
            waits.append(delay)
        await sleep(delay)

    await it.up()
    supervisor.asyncio.sleep = noted  # type: ignore[assignment]
    try:
        FakeBackend.starts[:] = [TargetError("rac did not start: no memory", 4)] * 20
        it.backend.death.set_result(-9)
        assert await asyncio.wait_for(it.task, LIMIT_S) == 4
    finally:
        supervisor.asyncio.sleep = sleep
    assert waits == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert len(FakeBackend.made) == 6
    assert it.known().state == "failed"
    assert it.known().message == ("gave up after 6 crashes in 10 min; the last: rac did not start: no memory")


async def test_one_that_lived_long_starts_its_delays_anew(watch: Callable[..., Watched]) -> None:
    it = watch(Policy(0.01, 0.04, healthy_s=0.0, crashes=1000, within_s=0.0, health_s=0.01, grace_s=0.1))
    await it.up()
    seen: set[str] = set()
    for number in range(1, 6):
        it.backend.death.set_result(1)
        await it.until(lambda: bool(seen.add(it.known().message)) or it.known().restarts >= number)  # noqa: B023
    assert it.known().restarts == 5
    assert not any("again in 0.02" in message for message in seen)


async def test_why_it_is_restarting_is_told(watch: Callable[..., Watched]) -> None:
    it = watch(Policy(first_delay_s=30.0, health_s=0.01))
    await it.up()
    it.backend.death.set_result(3)
    await it.until(lambda: "again in" in it.known().message)
    assert it.known().state == "restarting"
    assert it.known().message == "the backend ended with exit code 3: out of memory; again in 30 s"
    it.supervisor.stop()  # needs not wait for its turn
    assert await asyncio.wait_for(it.task, LIMIT_S) == 0


async def test_a_sick_backend_is_shown_and_left_alive(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Health(False, "/health: HTTP 503")]
    monkeypatch.setattr(supervisor, "health", lambda url: answers[0])
    it = watch()
    await it.up()
    await it.until(lambda: it.known().state == "unhealthy")
    assert it.known().message == "/health: HTTP 503"
    answers[0] = Health(True)
    await it.until(lambda: it.known().state == "ready" and it.known().message == "")
    assert len(FakeBackend.made) == 1


async def test_restarts_count_engines_inside_the_backend_and_the_backend_itself(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Health(True, restarts=0)]
    monkeypatch.setattr(supervisor, "health", lambda url: answers[0])
    it = watch()
    await it.up()
    answers[0] = Health(True, restarts=1)
    await it.until(lambda: it.known().restarts == 1)
    answers[0] = Health(False, "/health: HTTP 503")  # it does not say: what is known stays
    await it.until(lambda: it.known().state == "unhealthy")
    assert it.known().restarts == 1
    answers[0] = Health(True, restarts=2)
    await it.until(lambda: it.known().restarts == 2)
    answers[0] = Health(True, restarts=0)  # the next backend counts from 0
    it.backend.death.set_result(3)
    await it.until(lambda: len(FakeBackend.made) == 2 and it.known().restarts == 3)
    answers[0] = Health(True, restarts=1)
    await it.until(lambda: it.known().restarts == 4)


async def test_a_start_that_fails_leaves_no_entry(watch: Callable[..., Watched]) -> None:
    FakeBackend.starts = [TargetError("port 1 on 127.0.0.1 is in use", 2)]
    it = watch()
    assert await it.task == 2
    assert it.told[-1] == {"event": "failed", "message": "port 1 on 127.0.0.1 is in use", "code": 2}
    assert state.entry("d") is None
    assert list(state.home().iterdir()) == []
    assert not state.kept_log("d").exists()


async def test_a_backend_that_fails_to_start_leaves_its_log_and_no_folder(
    watch: Callable[..., Watched],
) -> None:
    FakeBackend.starts = [TargetError("rac did not start: no memory", 4)]
    it = watch()
    (state.folder_of("d") / state.LOG_FILE).write_text("CUDA out of memory\n")
    assert await it.task == 4
    assert list(state.home().iterdir()) == []
    assert state.log_of("d").read_text() == "CUDA out of memory\n"


@pytest.mark.parametrize("how", ["abandon", "stop"])
async def test_the_end_of_up_before_it_was_ready_ends_all(watch: Callable[..., Watched], how: str) -> None:
    FakeBackend.starts = ["never"]
    it = watch()
    await it.until(lambda: bool(it.told))
    assert it.known().message == "weights: run"
    getattr(it.supervisor, how)()
    assert await asyncio.wait_for(it.task, LIMIT_S) == 0
    assert it.backend.calls == ["stop"]
    assert state.entry("d") is None


async def test_up_that_dies_after_ready_but_before_its_word_ends_all(watch: Callable[..., Watched]) -> None:
    it = watch()
    await it.until(lambda: any(event["event"] == "ready" for event in it.told))
    it.supervisor.abandon()
    assert await asyncio.wait_for(it.task, LIMIT_S) == 0
    assert it.backend.calls == ["terminate", "stop"]


async def test_a_full_disk_does_not_end_a_server(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = watch()
    await it.up()
    real = state.write

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write", full)
    it.backend.death.set_result(1)
    await it.until(lambda: len(FakeBackend.made) == 2)
    monkeypatch.setattr(state, "write", real)
    it.backend.death.set_result(1)
    await it.until(lambda: it.known().restarts == 2)


def test_a_log_is_turned_over_beneath_its_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LOG_BYTES", 10)
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"0123456789abcdef\n")
        supervisor._turn_over(path)
        writer.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == b"0123456789abcdef\n"
    supervisor._turn_over(tmp_path / "none")
