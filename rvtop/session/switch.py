"""The load goes over to a topology: to one of ours that is up, or to one that is started first, beside the
server of now or in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns
from typing import Protocol

from rvtop.contract.command import CommandError, Retarget
from rvtop.contract.snapshot import Switch
from rvtop.contract.start import gpu_is_free
from rvtop.doctor.gpus import probe as probe_gpus
from rvtop.errors import UserError
from rvtop.session.events import EventFeed
from rvtop.session.load_run import LoadRun
from rvtop.session.load_target import LoadTarget
from rvtop.session.own_servers import OwnServer
from rvtop.session.rate_control import Done
from rvtop.target.backend import BackendOptions
from rvtop.target.preflight import check_backend
from rvtop.target.topologies import TOPOLOGIES

#: A server of ours that makes room gets so long for what is in flight.
DRAIN_S = 30.0
_LOOK_S = 0.05
#: Within this the workers have told of what a command changed, seconds.
_SEEN_S = 0.5


class GoesTo(Protocol):
    """What a change of the target to a server that is up takes."""

    def follow(self, command: Retarget, by: str) -> Done:
        """Begins to go to ``command.url``. Raises CommandError."""
        ...

    async def go_to(self, url: str, models: tuple[str, ...] = (), *, by: str) -> Done:
        """Goes there. Raises CommandError; the load is then where it was."""
        ...


def free_gpus() -> int | None:
    """How many GPUs of this machine no process uses; None where there are none, or none that can be asked."""
    found, _ = probe_gpus()
    if found is None or not found.names:
        return None
    used = zip(found.used, found.memory, strict=False)
    return sum(1 for used_bytes, of_bytes in used if of_bytes and gpu_is_free(used_bytes, of_bytes))


class Switching:
    """One change of the target at a time. ``load`` returns the load that runs."""

    def __init__(
        self,
        target: LoadTarget,
        feed: EventFeed,
        goes_to: GoesTo,
        load: Callable[[], LoadRun],
        *,
        check: Callable[[BackendOptions], object] = check_backend,
        room: Callable[[], int | None] = free_gpus,
    ) -> None:
        self._target = target
        self._servers = target.servers
        self._feed = feed
        self._goes_to = goes_to
        self._load = load
        self._check = check
        self._room = room
        self._busy = False
        self._held = False
        self._shown: Switch | None = None
        self._since_ns = 0

    def shown(self, now_ns: int) -> Switch | None:
        """What a snapshot says of it."""
        if self._shown is None:
            return None
        return replace(self._shown, since_s=max(0.0, (now_ns - self._since_ns) / 1e9))

    def follow(self, command: Retarget, by: str) -> Done:
        """Begins the change; ``Done.later`` is done when requests go there. Raises CommandError."""
        if bool(command.url) == bool(command.topology):
            raise CommandError("retarget: needs either url or topology")
        if self._busy:
            raise CommandError("retarget: the load is on its way to another server already")
        if command.topology and command.topology not in TOPOLOGIES:
            known = ", ".join(TOPOLOGIES)
            raise CommandError(f"retarget: topology {command.topology}: unknown; known are: {known}")
        load = self._load()
        if load.searcher is not None:
            raise CommandError("retarget: --find-max searches one server")
        load.check_now(draining=True)
        if command.url and not self._held:
            done = self._goes_to.follow(command, by)
            if done.later is not None:
                self._take_while(done.later)
            return done
        self._take()
        later = asyncio.ensure_future(self._go(command, by))
        return Done(f"going to {command.topology or command.url}", later=later)

    def _take(self) -> None:
        self._busy, self._since_ns = True, perf_counter_ns()

    def _take_while(self, later: asyncio.Future[Done]) -> None:
        def done(_: asyncio.Future[Done]) -> None:
            self._busy = False

        self._take()
        later.add_done_callback(done)

    async def _go(self, command: Retarget, by: str) -> Done:
        try:
            done = await self._to(command, by)
        except UserError as error:
            if not self._held:
                self._shown = None
            text = str(error)
            raise CommandError(text if text.startswith("retarget: ") else f"retarget: {text}") from None
        else:
            self._shown = None
            return done
        finally:
            self._busy = False

    async def _to(self, command: Retarget, by: str) -> Done:
        if command.url:
            return await self._over(command.url, command.models, command.url, by)
        name = command.topology
        before = self._target.own
        models = command.models or (tuple(before.options.models) if before is not None else ())
        options = BackendOptions(name, models=models, arguments=command.arguments)
        up = self._servers.like(options)
        if up is not None and up is not self._target.own:
            return await self._over(up.url, (), name, by)
        self._say_what(name, "checks")
        await asyncio.to_thread(self._check, options)
        if self._target.away:
            before = None
        instead = before is not None and await self._makes_room(command)
        if instead or command.pause:
            await self._hold(name, by)
        try:
            if instead and before is not None:
                await self._end(before, name)
            self._say_what(name, "starts")
            server = await self._servers.start(options)
        except UserError as error:
            await self._back(name, by)
            raise CommandError(f"retarget: {error}") from None
        left = self._load().target_number
        try:
            done = await self._over(server.url, (), name, by)
        except UserError:
            await self._servers.end(server)
            await self._back(name, by)
            raise
        if before is None or instead:
            return done if not instead else replace(done, inverse=None)  # there is nothing to go back to
        if not command.keep:
            self._say_what(name, f"drains {before.options.topology}")
            await self._drained(lambda: self._load().live.in_flight_at(left))
            await self._servers.end(before)
            return replace(done, inverse=None)
        return done

    async def _makes_room(self, command: Retarget) -> bool:
        """Whether the server of now, which is ours, ends before the next one starts."""
        if command.place != "auto":
            return command.place == "instead"
        return not await asyncio.to_thread(self._room)  # without GPUs they would share the cores

    async def _hold(self, name: str, by: str) -> None:
        """Pauses the load, once a phase sends."""
        if self._held:
            return
        load = self._load()
        while load.player.state != "sending":  # a phase drains: the next one has not begun
            load.check_now(draining=True)
            await asyncio.sleep(_LOOK_S)
        load.hold(f"the load is paused for the switch to {name}; it goes on with the server it goes to", by)
        self._held = True

    async def _end(self, server: OwnServer, name: str) -> None:
        """Lets what is in flight end, and ends the server."""
        self._say_what(name, f"drains {server.options.topology}")
        await self._drained(lambda: self._load().live.in_flight)
        self._say_what(name, f"ends {server.options.topology}")
        self._target.away = True
        await self._servers.end(server)
        self._feed.say(f"{server.options.topology} at {server.url} has ended, to make room", kind="target")

    async def _drained(self, in_flight: Callable[[], int]) -> None:
        """Waits for what is in flight somewhere, DRAIN_S at most."""
        until_ns = perf_counter_ns() + round(DRAIN_S * 1e9)
        await asyncio.sleep(_SEEN_S)  # a pause or a change takes effect, and the workers tell of it
        while in_flight() and perf_counter_ns() < until_ns:
            await asyncio.sleep(_LOOK_S)

    async def _over(self, url: str, models: tuple[str, ...], name: str, by: str) -> Done:
        """To a server that is up; a load that was held goes on there."""
        self._say_what(name, "warms up")
        done = await self._goes_to.go_to(url, models, by=by)
        self._go_on(by)
        return done

    def _go_on(self, by: str) -> None:
        if self._held:
            self._held = False
            self._load().go_on(by)

    async def _back(self, name: str, by: str) -> None:
        """The start failed. A load that was held goes back to the server of before if it is up, or waits."""
        if not self._held or not self._load().going:
            return
        if not self._target.away:
            try:
                await self._goes_to.go_to(self._target.url, self._target.models, by=by)
            except CommandError as error:
                self._feed.say(str(error), "warn", "command")
            else:
                self._go_on(by)
                return
        self._shown = Switch(name, "did not start", 0.0, paused=True, waits=True)
        self._feed.say(f"{name} did not start: the load waits; t chooses a server", "error", "target")

    def _say_what(self, name: str, what: str) -> None:
        self._shown = Switch(name, what, 0.0, paused=self._held)
        self._feed.touch()
