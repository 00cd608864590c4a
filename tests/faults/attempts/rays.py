"""Load workers on Ray, rac and rsc under kill -9. Slow: each starts a cluster of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable

from tests.backends.ray_load import workers_in
from tests.backends.someones_cluster import SomeonesCluster
from tests.faults.attempts import Skip, attempt
from tests.faults.attempts.cli import (
    accounted,
    check,
    ended,
    folder,
    lines,
    long_run,
    mock,
    rvtop,
    stopped,
    until,
)
from tests.unit.processes import alive, children

START_S = 240.0
GONE_S = 60.0


def _needs(*modules: str) -> None:
    """Raises Skip without these."""
    import importlib.util

    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise Skip(f"{name} is not installed")


def _below(pid: int, words: str) -> list[int]:
    return sorted(one for one, what in children(pid).items() if words in what)


def _gone(found: list[int]) -> bool:
    return not any(map(alive, found))


def _cluster() -> SomeonesCluster:
    """Someone's cluster. On a busy machine Ray's own start fails now and then, which is not what is tried."""
    for _ in range(2):
        with contextlib.suppress(AssertionError):
            return SomeonesCluster(folder())
    return SomeonesCluster(folder())


@attempt("workers on someone's Ray cluster: a worker, an actor, the bridge, the session killed", 420)
def rays_workers_killed() -> None:
    _needs("ray")
    theirs = _cluster()
    try:
        with mock(ttft_ms=200) as server:

            def begun() -> tuple[subprocess.Popen[bytes], object]:
                return long_run(
                    server.url, "--workers", "ray:2", "--ray-address", theirs.address, env=theirs.env
                )

            # A worker, and then the actor that holds another one: the run goes on with who is left.
            for victim in (lambda w: w.pid, lambda w: w.parent):
                process, run = begun()
                os.kill(victim(workers_in(theirs.env["RAY_TMPDIR"])[0]), signal.SIGKILL)
                before = lines(run)
                until(lambda run=run, before=before: lines(run) > before + 40, "the other one's requests")
                done = stopped(process, run, 5, "load worker")
                assert done.errors.get("worker_lost"), done.errors
                assert set(done.errors) <= {"worker_lost", "cancelled"}, done.errors
            # The session: nothing of ours stays on the cluster.
            process, run = begun()
            process.kill()
            process.wait()
            until(lambda: not workers_in(theirs.env["RAY_TMPDIR"]), "the workers to end", GONE_S)
            # All of them at once: what was measured stays.
            process, run = begun()
            for worker in workers_in(theirs.env["RAY_TMPDIR"]):
                os.kill(worker.pid, signal.SIGKILL)
            check(ended(process, run), 5, "load worker")
            # The bridge: Ray ends its actors, and they their workers.
            process, run = begun()
            (bridge,) = _below(process.pid, "rvtop.load.fleet.ray.bridge")
            os.kill(bridge, signal.SIGKILL)
            check(ended(process, run), 5, "load worker")
    finally:
        theirs.close()


def _topology(name: str, act: Callable[[subprocess.Popen[bytes]], None], code: int | None) -> None:
    """Starts a topology under load, acts, and waits for the end: ``code``, or None where the session was
    killed. Nothing that it started may be left."""
    words = ("--rate", 4, "--duration", "20m", "--output-tokens", 16, "--prompt-tokens", 16, "--ui", "none")
    for _ in range(3):  # Ray's own start fails now and then on a busy machine
        run = folder() / "run"
        process = rvtop("run", *words, "--topology", name, "--out", run)
        until(lambda: lines(run) >= 5 or process.poll() is not None, "five answers", START_S)  # noqa: B023
        if process.poll() is None:
            break
        said = process.communicate()[1]
        assert b"timed out during startup" in said, said
    assert process.poll() is None, "Ray did not start"
    below = sorted(children(process.pid))
    act(process)
    if code is None:
        process.wait(30)
    else:
        done = ended(process, run, GONE_S)
        assert done.code == code, (done.code, done.err)
        accounted(done)
    until(lambda: _gone(below), "all that it started to end", GONE_S)


@attempt("rac: the session is killed; backend, Ray and engine end by themselves", 420)
def rays_rac_session_killed() -> None:
    _needs("ray", "torch", "transformers")
    _topology("rac", lambda process: process.kill(), None)


@attempt("rac: the backend is killed; the run ends with 3, and Ray with it", 420)
def rays_rac_backend_killed() -> None:
    _needs("ray", "torch", "transformers")
    _topology("rac", lambda process: os.kill(_below(process.pid, "-m backends")[0], signal.SIGKILL), 3)


@attempt("rac: the engine's actor is killed; it comes back, and answers again", 420)
def rays_rac_engine_killed() -> None:
    _needs("ray", "torch", "transformers")

    def act(process: subprocess.Popen[bytes]) -> None:
        run = process.args[process.args.index("--out") + 1]  # type: ignore[union-attr, index]
        engines = until(lambda: _below(process.pid, "ray::Hf"), "an engine's actor")
        for pid in engines:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        before = _good(run)
        until(lambda: _good(run) > before + 5, "answers of the engine that came back", START_S)
        process.send_signal(signal.SIGINT)

    _topology("rac", act, 130)


def _good(run: str) -> int:
    """Requests that ended well."""
    with open(f"{run}/requests.jsonl", "rb") as file:
        return file.read().count(b'"error":null')


@attempt("rsc: the session is killed; backend, Serve and Ray end by themselves", 420)
def rays_rsc_session_killed() -> None:
    _needs("ray", "torch", "transformers")
    _topology("rsc", lambda process: process.kill(), None)
