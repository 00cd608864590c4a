"""What a session offers to others beside its screen: the control socket, a page of metrics, spans to a
collector. Each only where it was asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from rvtop.contract.snapshot import Snapshot
from rvtop.session.commands import Commands
from rvtop.session.control import ControlSocket
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.load_run import LoadRun
from rvtop.session.otlp import Collector, SpanSender, check_headers
from rvtop.session.request import SessionRequest

if TYPE_CHECKING:  # only a session with --metrics-port needs it
    from rvtop.session.metrics_page import Measured, MetricsPage


class Outlets:
    """``load`` is the load that runs now; ``collector`` and ``metrics_page`` stand after `open` where they
    were asked for."""

    def __init__(
        self,
        request: SessionRequest,
        scenario: str,
        commands: Commands,
        snapshot: Callable[[], Snapshot],
        load: Callable[[], LoadRun],
        feed: EventFeed,
    ) -> None:
        self._request = request
        self._scenario = scenario
        self._commands = commands
        self._snapshot = snapshot
        self._load = load
        self._feed = feed
        self._opened = contextlib.AsyncExitStack()
        self.collector: Collector | None = None
        self.metrics_page: MetricsPage | None = None

    async def open(self, ending: Ending, began_ns: int) -> None:
        """Opens what was asked for. Raises UserError for what can't be opened."""
        path = self._request.control
        if path is not None:
            control = ControlSocket(
                path,
                self._scenario,
                self._commands,
                self._snapshot,
                self._feed.news,
                ending.crashed,
                began_ns,
            )
            self._opened.push_async_callback(control.close)
            await control.open()
        if self._request.metrics_port is not None:
            from rvtop.session.metrics_page import MetricsPage

            self.metrics_page = page = MetricsPage(self._request.metrics_port, self._measured)
            self._opened.push_async_callback(page.close)
            self._feed.say(f"metrics of the client: {page.url}")
        if self._request.otlp is not None:
            check_headers(self._request.transport.headers)
            made = asyncio.to_thread(Collector, self._request.otlp)
            self.collector = await ending.unless_stopped(made)

    @property
    def traces(self) -> int:
        """The number of this run in the traces of its requests; 0 where none are asked for."""
        return self.collector.run if self.collector is not None else 0

    def spans(self, t0_unix_ns: int, path: str) -> SpanSender | None:
        """What sends a span of each request to the collector, where one was asked for. ``t0_unix_ns`` is the
        run's start, ``path`` where requests go."""
        if self.collector is None:
            return None
        about = {"rvtop.run": self._request.out.name, "rvtop.scenario": self._scenario}
        return self.collector.sender(t0_unix_ns, path, about, self._feed.from_thread("warn"))

    async def close(self) -> None:
        """Closes the control socket and the page; spans are sent by whoever has their sender."""
        await self._opened.aclose()

    def _measured(self) -> Measured:
        from rvtop.session.metrics_page import Measured

        latencies = self._load().live.latencies
        return Measured(self._snapshot(), {key: each.distribution() for key, each in latencies.items()})
