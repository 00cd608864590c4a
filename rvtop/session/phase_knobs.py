"""What a phase asks of the server before its first request: an empty prefix cache, a profiler that runs."""

from __future__ import annotations

import asyncio

from rvtop.load.plan.schedule import PhasePlan
from rvtop.net.transport import Transport
from rvtop.session.load_parts import Parts
from rvtop.target.acts import RESET, START_PROFILE, STOP_PROFILE, act

_DONE = {
    RESET: "the prefix cache is empty",
    START_PROFILE: "the profiler runs",
    STOP_PROFILE: "the profiler has stopped",
}
_FAILED = {
    RESET: "the prefix cache was not reset",
    START_PROFILE: "the profiler was not started",
    STOP_PROFILE: "the profiler was not stopped",
}


class PhaseKnobs:
    """Asks the target of ``parts``. What the server refuses is one event, and the load goes on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._profiled: tuple[str, Transport] | None = None  # the server whose profiler we started
        self._task: asyncio.Task[None] | None = None  # for the phase that comes next

    def ready(self, phase: PhasePlan | None) -> bool:
        """Whether ``phase`` may begin, None: the end of the load. The first call begins what it asks for; the
        session is woken once that is done."""
        if self._task is None and not self._actions(phase):
            return True
        if self._task is None:
            self._task = asyncio.create_task(self.prepare(phase))
            self._task.add_done_callback(lambda task: self._parts.wakeup.set())
        if not self._task.done():
            return False
        self._task.result()
        self._task = None
        return True

    async def prepare(self, phase: PhasePlan | None) -> None:
        """Does what ``phase`` asks for. A profiler of the phase before is stopped where this one wants
        none."""
        for action in self._actions(phase):
            await self._act(action)

    async def close(self) -> None:
        """Stops what was started."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._profiled is not None:
            await self._act(STOP_PROFILE)

    def _actions(self, phase: PhasePlan | None) -> list[str]:
        wanted = phase is not None and phase.profile
        actions = [STOP_PROFILE] if self._profiled is not None and not wanted else []
        if phase is not None and phase.reset_prefix_cache:
            actions.append(RESET)
        return actions + ([START_PROFILE] if wanted and self._profiled is None else [])

    async def _act(self, action: str) -> None:
        info = self._parts.target.info
        if info is None:
            return
        server = (info.pages, self._parts.target.transport)
        if action == STOP_PROFILE and self._profiled is not None:
            server, self._profiled = self._profiled, None  # the load may have gone over to another one
        why = await act(server[0], action, server[1])
        if why:
            self._parts.feed.say(f"{_FAILED[action]}: {why}", "warn", "target")
        else:
            self._parts.feed.say(_DONE[action], kind="target")
            if action == START_PROFILE:
                self._profiled = server
        self._parts.recorder.note({"cmd": action, "refused": why or None})
