"""The head's view of vLLM servers: one :class:`VllmServer` per process of ``vllm serve``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from backends.engines.protocol import EngineInfo
from backends.engines.vllm_args import Made
from backends.engines.vllm_page import relabelled, total
from backends.errors import StartFailure, UsageError
from backends.models.weights import damage
from backends.process.events import Steps
from backends.process.log_tail import LogTail
from backends.router.fleet import ACT_LIMIT_S, ASK_LIMIT_S, Member, Served, answer_of
from backends.vllm_server.launch import Order

LAUNCHER = "backends.vllm_server.launch"
POLL_S = 0.1
WARM_UP_LIMIT_S = 300.0
# How long vLLM gets to end by itself.
CLOSE_LIMIT_S = 5.0
# How long the last lines of a process that ended may take to get here.
LOG_LIMIT_S = 5.0


@dataclass(frozen=True)
class ServerSpec:
    """What a server's process needs. ``devices`` are the GPUs that it sees, as CUDA_VISIBLE_DEVICES names
    them; none: the CPU. ``token`` is the bearer that it asks for."""

    engine: str
    model: str
    path: str
    order: Order
    devices: tuple[str, ...]
    token: str

    def __repr__(self) -> str:  # the token stays out of every log
        return f"ServerSpec({self.engine}, {self.model}={self.path})"


class VllmServer(Member):
    """One ``vllm serve``, at a socket that only the router and the head get to."""

    def __init__(self, spec: ServerSpec, environ: Mapping[str, str], turn: asyncio.Semaphore) -> None:
        super().__init__(spec.engine, spec.model, turn)
        self.spec = spec
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._log: LogTail | None = None
        self._http = aiohttp.ClientSession(
            "http://vllm",
            connector=aiohttp.UnixConnector(spec.order.socket),
            headers={"Authorization": f"Bearer {spec.token}"},
            timeout=aiohttp.ClientTimeout(total=ASK_LIMIT_S),
        )

    async def start(self, steps: Steps | None = None) -> None:
        """Starts the process, and asks it for some tokens."""
        steps = steps or Steps(lambda event, **fields: None)
        if wrong := damage(self.spec.path):
            raise StartFailure(f"{wrong}; copy that file here again")
        async with self.turn:
            await self._end()
            try:
                with steps.step("weights", self.engine):
                    await self._launch()
                    await self._until_it_answers()
                with steps.step("warm-up", self.engine):
                    await self._warm_up()
            except BaseException:
                await self._end()
                raise
        self.came_up(Served(self.spec.order.socket, self._info(), self.spec.path))

    async def died(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        self.status = "restarting"
        return await self._why(code)

    async def drain(self, grace_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while (page := await self.page()) is not None and any(in_flight(page)):
                    await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        self.status = "stopped"
        await self._end()
        await self._http.close()

    async def page(self) -> str | None:
        page = await answer_of(self, self._http, "/metrics")
        return None if page is None else relabelled(page.decode(), self.engine)

    async def told(self) -> dict[str, Any] | None:
        page = None if self.served is None else await self.page()
        if page is None:
            return None
        running, waiting = in_flight(page)
        return asdict(self.info) | {"state": self.status, "running": running, "waiting": waiting}

    async def act(self, action: str) -> bool | None:
        if self.served is None:
            return False
        limit = aiohttp.ClientTimeout(total=ACT_LIMIT_S)
        try:
            async with self._http.post(f"/{action}", timeout=limit) as answer:
                if answer.status in (404, 405):  # without VLLM_SERVER_DEV_MODE, or a profiler
                    return None
                body = await answer.read()
                return answer.status == 200 and (not body or json.loads(body).get("success") is not False)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError):
            return False

    # -- inside ------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        spec = self.spec
        for path in (spec.order.socket, spec.order.facts):
            Path(path).unlink(missing_ok=True)
        environ = {**self._environ, "VLLM_API_KEY": spec.token}
        if spec.devices:
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(spec.devices)
        reader, writer = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", LAUNCHER, json.dumps(asdict(spec.order))),
                stdin=asyncio.subprocess.PIPE,  # at whose end it ends
                stdout=writer,
                stderr=writer,
                env=environ,
                start_new_session=True,  # Ctrl-C in our terminal is ours to handle
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._log = LogTail(reader, 2)

    async def _until_it_answers(self) -> None:
        assert self._process is not None
        while await answer_of(self, self._http, "/health") is None:
            code = self._process.returncode
            if code is not None:
                why = await self._why(code)
                if code == UsageError.exit_code:
                    raise UsageError(why)
                raise StartFailure(f"{self.engine}: {why}")
            await asyncio.sleep(POLL_S)

    async def _warm_up(self) -> None:
        """A few tokens, greedy and sampled, so that no request pays for what is set up lazily."""
        limit = aiohttp.ClientTimeout(total=WARM_UP_LIMIT_S)
        for temperature in (0, 1):
            body = {"model": self.model, "prompt": "warm-up", "max_tokens": 4, "temperature": temperature}
            try:
                async with self._http.post("/v1/completions", json=body, timeout=limit) as answer:
                    status, text = answer.status, await answer.text()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise StartFailure(f"{self.engine}: vLLM's server does not answer: {error!r}") from error
            if status != 200:
                raise StartFailure(f"{self.engine}: vLLM's server answered {status}: {text[:200]}")

    async def _why(self, code: int) -> str:
        """Why the process ended: its own last words."""
        assert self._log is not None
        await asyncio.to_thread(self._log.wait, LOG_LIMIT_S)
        lines = [line.strip() for line in self._log.lines() if line.strip()]
        if code in (UsageError.exit_code, StartFailure.exit_code) and lines:
            return lines[-1]  # the launcher's
        return self._log.reason() or f"vLLM's server ended with exit code {code}; see the log"

    async def _end(self) -> None:
        """Ends the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def _info(self) -> EngineInfo:
        made = Made(**json.loads(Path(self.spec.order.facts).read_text()))
        assert self._process is not None
        return EngineInfo(
            engine=self.engine,
            kind="vllm",
            model=self.model,
            node=socket.gethostname(),
            pid=self._process.pid,
            devices=tuple(f"cuda:{device}" for device in self.spec.devices) or ("cpu",),
            dtype=made.dtype,
            concurrency=made.concurrency,
            step_tokens=made.step_tokens,
            quantization=made.quantization,
            speculation=made.speculation,
            max_loras=made.max_loras,
            max_lora_rank=made.max_lora_rank,
            max_model_len=made.max_model_len,
            threads=self.spec.order.cpu_threads,
            own_queue=True,
            kv_events=self.spec.order.kv_events,
        )


def in_flight(page: str) -> tuple[int, int]:
    """Requests that run and that wait, of an engine's page."""
    return int(total(page, "vllm:num_requests_running")), int(total(page, "vllm:num_requests_waiting"))
