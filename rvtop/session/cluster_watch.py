"""Follows what the backend says of its cluster during a session: its lines become events, its nodes are
shown.

Also says when this machine's own clock was set: figures are taken from the monotonic clock and do not jump,
times of day do.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Callable

from rvtop.contract.cluster import Cluster
from rvtop.errors import UserError
from rvtop.net.http_get import AnswerTooLong, get
from rvtop.net.transport import Transport
from rvtop.session.events import EventFeed
from rvtop.target.probe import TargetInfo, auth_headers
from rvtop.telemetry.cluster import ClusterPage, cluster_page

_PERIOD_S = 1.0
_LIMIT_S = 2.0
#: A clock that was set, and not one that is slewed.
_STEP_S = 2.0


def _ahead() -> float:
    return time.time() - time.monotonic()


class ClusterWatch:
    """``cluster`` is None where the target is in none, or does not tell."""

    def __init__(self, feed: EventFeed, clocks: Callable[[], float] = _ahead) -> None:
        """``clocks`` tells how far the wall clock is ahead of the monotonic one."""
        self._feed = feed
        self._clocks = clocks
        self._ahead = clocks()
        self._task: asyncio.Task[None] | None = None
        self._seen: int | None = None  # the newest line that was said
        self.cluster: Cluster | None = None

    def start(self, info: TargetInfo, transport: Transport) -> None:
        """Begins to ask the backend at ``info``, in the running loop. Only one of ours is asked."""
        if self._task is None and info.topology is not None:
            self._seen = None
            self._task = asyncio.create_task(self._run(f"{info.pages}/rvtop/cluster", transport))

    async def move(self, info: TargetInfo, transport: Transport) -> None:
        """Asks another target from now on."""
        await self.stop()
        self.start(info, transport)

    async def stop(self) -> None:
        """Asks no more."""
        task, self._task, self.cluster = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def check_clock(self) -> None:
        """Once a second."""
        ahead = self._clocks()
        step, self._ahead = ahead - self._ahead, ahead
        if abs(step) >= _STEP_S:
            self._feed.say(
                f"this machine's clock was set by {step:+.0f} s: times of day jump, figures do not",
                "warn",
                "clock",
            )

    def take(self, page: ClusterPage) -> None:
        """Takes in an answer. Lines that were there before the first one are not news."""
        numbers = [notice.number for notice in page.notices]
        newest = max(numbers, default=0)
        if self._seen is not None:
            if newest < self._seen:  # the backend started anew
                self._seen = 0
            for notice in page.notices:
                if notice.number > self._seen:
                    self._feed.say(notice.text, notice.level, "cluster")
        self._seen = newest
        if page.cluster != self.cluster:
            self.cluster = page.cluster
            self._feed.touch()

    async def _run(self, url: str, transport: Transport) -> None:
        while True:
            page = await asyncio.to_thread(_ask, url, transport)
            if page is not None:
                self.take(page)
            await asyncio.sleep(_PERIOD_S)


def _ask(url: str, transport: Transport) -> ClusterPage | None:
    """None where nothing answers (others say that), or an older backend, which has no such page."""
    try:
        status, body = get(url, transport, auth_headers(transport), _LIMIT_S)
        return cluster_page(body) if status == 200 else None
    except (OSError, ValueError, http.client.HTTPException, AnswerTooLong, UserError):
        return None
