"""The tools that an agent sees."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from rvtop.contract.run_files import SUMMARY
from rvtop.errors import UserError
from rvtop.mcp.driver import Driver
from rvtop.mcp.figures import of_snapshot, of_summary, safe
from rvtop.mcp.limits import Limits
from rvtop.scenario.load import find_scenario, load_scenario, scenario_from, shipped_scenarios
from rvtop.scenario.schema import Scenario
from rvtop.session.request import SessionRequest, default_out, topology_options

_INSTRUCTIONS = """\
rvtop measures servers of language models under load. Look with `watch` (give seconds to wait first: figures
cover the last 10 s), read finished runs with `runs` and `summary`. Where load is allowed: `start_load` or
`run_scenario`, then `set_rate`, `watch`, and `stop`, which writes the run folder. A figure that is null is
not known. Where `client_limited` is not null the figures say more of the client than of the server."""
_MOST_WATCH_S = 120.0
_STOP_LIMIT_S = 120.0

Tool = Callable[..., Awaitable[dict[str, Any]]]


def build(limits: Limits, driver: Driver, runs: Path) -> MCPServer[Any]:
    """The server. ``runs``: the folder whose runs can be read."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await driver.close()

    server = MCPServer("rvtop", instructions=_INSTRUCTIONS, lifespan=lifespan, log_level="ERROR")
    tools = Tools(limits, driver, runs)
    to_look: tuple[Tool, ...] = (tools.watch, tools.scenarios, tools.runs, tools.summary)
    to_load: tuple[Tool, ...] = (
        tools.start_load,
        tools.run_scenario,
        tools.set_rate,
        tools.pause,
        tools.resume,
    )
    to_end: tuple[Tool, ...] = (tools.mark, tools.next_phase, tools.cancel, tools.stop)
    for tool in (*to_look, *to_load, *to_end):
        server.tool()(_told(tool))
    return server


def _told(tool: Tool) -> Tool:
    """The tool, with what is refused as one line, and texts of servers made harmless."""

    @functools.wraps(tool)
    async def called(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = safe(await tool(*args, **kwargs))
        except UserError as error:
            raise ToolError(safe(str(error))) from None
        return found

    return called


class Tools:
    """Each method is a tool; its docstring is what an agent reads."""

    def __init__(self, limits: Limits, driver: Driver, runs: Path) -> None:
        self._limits = limits
        self._driver = driver
        self._runs = runs

    # -- to look -----------------------------------------------------------------------------

    async def watch(self, seconds: float = 0.0) -> dict[str, Any]:
        """Waits so many seconds (0 to 120), then tells the session's figures: rates, TTFT, ITL, errors, the
        server's own figures, what binds it, the latest events. Figures cover the last 10 s."""
        if not 0 <= seconds <= _MOST_WATCH_S:
            raise UserError(f"watch: {seconds:g} seconds; from 0 to {_MOST_WATCH_S:g} are possible")
        if self._driver.own:
            await self._driver.ended(seconds)
        else:
            await asyncio.sleep(seconds)
        return of_snapshot(await self._driver.snapshot())

    async def scenarios(self) -> dict[str, Any]:
        """The shipped scenarios for run_scenario, and what this server allows."""
        limits = self._limits
        return {
            "scenarios": list(shipped_scenarios()),
            "load_allowed": limits.load,
            "max_rate": limits.max_rate,
            "targets": list(limits.targets),
        }

    async def runs(self) -> dict[str, Any]:
        """The names of the runs that have a summary, newest first."""
        found = await asyncio.to_thread(lambda: list(self._runs.glob(f"*/{SUMMARY}")))
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return {"runs": [path.parent.name for path in found]}

    async def summary(self, run: str) -> dict[str, Any]:
        """What a run measured, over all and for each phase, with its findings: what bound the server, and
        which option of it may help."""
        if not run or Path(run).name != run or run in (".", ".."):
            raise UserError(f"summary: {run}: give a name that `runs` told")
        path = self._runs / run / SUMMARY
        try:
            told = orjson.loads(await asyncio.to_thread(path.read_bytes))
        except FileNotFoundError:
            raise UserError(f"summary: {run}: no such run, or it has no summary yet") from None
        except (OSError, orjson.JSONDecodeError) as error:
            raise UserError(f"summary: {run}: can't be read: {error}") from None
        return of_summary(told)

    # -- to drive ----------------------------------------------------------------------------

    async def start_load(
        self,
        target: str,
        rate: float,
        seconds: float = 600.0,
        prompt_tokens: int = 200,
        output_tokens: int = 64,
        models: list[str] | None = None,
        slo_ttft_ms: float | None = None,
        slo_tpot_ms: float | None = None,
    ) -> dict[str, Any]:
        """Sends `rate` requests a second, as a Poisson process, to `target`: the URL of a server, or a
        topology to start (then `models` are NAME=SOURCE). Change the rate by set_rate; it ends after
        `seconds` or by stop. With an SLO, goodput is told."""
        self._limits.check_load("start_load")
        self._limits.check_rate("start_load", rate)
        slo = {"ttft_ms": slo_ttft_ms, "tpot_ms": slo_tpot_ms}
        data = {
            "name": "steady",
            "workload": {
                "kind": "synthetic",
                "prompt_tokens": prompt_tokens,
                "output_tokens": output_tokens,
                "ignore_eos": True,
            },
            "phases": [{"name": "steady", "rate": rate, "duration": f"{seconds:g}s", "arrivals": "poisson"}],
            **(
                {"slo": {name: ms for name, ms in slo.items() if ms is not None}} if any(slo.values()) else {}
            ),
        }
        return await self._start("start_load", scenario_from(data, "start_load"), target, models)

    async def run_scenario(
        self, scenario: str, target: str, models: list[str] | None = None
    ) -> dict[str, Any]:
        """Runs a shipped scenario (its name, see `scenarios`) against `target`, as start_load has it."""
        self._limits.check_load("run_scenario")
        if scenario not in shipped_scenarios():
            raise UserError(f"run_scenario: {scenario}: known are {', '.join(shipped_scenarios())}")
        return await self._start("run_scenario", load_scenario(find_scenario(scenario)), target, models)

    async def set_rate(
        self, rps: float, over_s: float | None = None, for_s: float | None = None
    ) -> dict[str, Any]:
        """Changes the rate: at once, within `over_s` seconds as a ramp, or for `for_s` seconds as a spike."""
        self._limits.check_rate("set_rate", rps)
        fields = {"rps": rps, "over_s": over_s, "for_s": for_s}
        return await self._command(
            "rate", {name: value for name, value in fields.items() if value is not None}
        )

    async def pause(self) -> dict[str, Any]:
        """Stops sending; what is in flight goes on."""
        return await self._command("pause", {})

    async def resume(self) -> dict[str, Any]:
        """Sends again, at the rate of before."""
        return await self._command("resume", {})

    async def mark(self, note: str) -> dict[str, Any]:
        """Notes that something happened now, on the screen and in the run's files."""
        return await self._command("mark", {"note": note})

    async def next_phase(self) -> dict[str, Any]:
        """Ends the phase of a scenario that runs, and begins the next one."""
        return await self._command("phase", {"to": "next"})

    async def cancel(self) -> dict[str, Any]:
        """Cancels all requests in flight; the load goes on."""
        return await self._command("cancel", {})

    async def stop(self) -> dict[str, Any]:
        """Ends the load and writes its run folder, whose name `runs` then tells."""
        said = await self._command("stop", {"reason": "mcp"})
        await self._driver.ended(_STOP_LIMIT_S)
        return said

    async def _command(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        self._limits.check_load(name)
        return {"ok": await self._driver.command(name, fields)}

    async def _start(
        self, what: str, scenario: Scenario, target: str, models: list[str] | None
    ) -> dict[str, Any]:
        self._limits.check_target(what, target)
        url = "://" in target
        out = default_out(scenario.name).name
        request = SessionRequest(
            scenario,
            self._runs / out,
            url=target if url else None,
            backend=None if url else topology_options(target, models=models or (), port=0, arguments=()),
            models=tuple(models or ()) if url else (),
            max_rate=self._limits.max_rate,
        )
        return of_snapshot(await self._driver.start(request))
