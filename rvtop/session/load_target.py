"""The server that a session loads: who it is, whether we started it, and whether it still answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

from rvtop.contract.snapshot import Target
from rvtop.contract.start import start_words
from rvtop.load.plan.api import Api
from rvtop.load.worker.messages import Delta
from rvtop.net.transport import Transport
from rvtop.results.spent import gpus_held
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.live import LiveState
from rvtop.session.own_servers import OwnServer, OwnServers
from rvtop.session.request import SessionRequest
from rvtop.session.target_watch import ANSWER_S, LossWatch, TargetWatch
from rvtop.target.mix import matching, shares_of
from rvtop.target.probe import TargetInfo, answers, bases, choose_models, has_models, probe, with_engines
from rvtop.target.served import check_served
from rvtop.text import printable_names


class LoadTarget:
    """``info`` is None until the target was probed; ``models`` are those to send to, as the server names
    them, ``shares`` of the requests that each of them gets; none: in turn.
    ``is_running`` says whether the load goes on still, so that the target is missed. ``servers`` are
    those that we started; ``away``: the one of now was ended on purpose, and its silence says nothing."""

    def __init__(
        self, request: SessionRequest, feed: EventFeed, ending: Ending, is_running: Callable[[], bool]
    ) -> None:
        self._request = request
        self._feed = feed
        self._ending = ending
        self._is_running = is_running
        self.servers = OwnServers(request.out, feed, ending, self._ended)
        self._own: OwnServer | None = None  # of these the one that is loaded
        self.away = False
        self._pages: frozenset[str] = frozenset()
        self._silence: TargetWatch | None = None
        self._loss: LossWatch | None = None
        self._transport = request.transport
        self.start_s: float | None = None  # how long a backend of ours took to be ready
        self.info: TargetInfo | None = None
        self.models: tuple[str, ...] = ()
        self.shares: tuple[float, ...] = ()
        self.mix: Mapping[str, float] = {}  # what was asked for, by name or pattern; of no server

    def gpus_held(self, replicas: Sequence[Mapping[str, Any]]) -> int | None:
        """GPUs of all engines, of which ``replicas`` are told; None where they don't tell."""
        return None if self.info is None else gpus_held(self.info.knobs, replicas)

    # -- its start ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it is; "" while a backend of ours has no address yet."""
        return self.info.url if self.info is not None else (self._request.url or "")

    @property
    def owned(self) -> bool:
        """Whether we started it, or do so now."""
        return self._own is not None or (self.info is None and self._request.backend is not None)

    @property
    def topology(self) -> str | None:
        """Which topology we started; None where it is not ours."""
        own, asked = self._own, self._request.backend
        if own is not None:
            return own.options.topology
        return asked.topology if asked is not None and self.info is None else None

    @property
    def start(self) -> tuple[str, ...]:
        """The words of a command line that start it; none where it is not ours."""
        options = (
            self._own.options if self._own is not None else self._request.backend if self.owned else None
        )
        return start_words(options.topology, options.models, options.arguments) if options is not None else ()

    @property
    def standby(self) -> tuple[Target, ...]:
        """Further servers of ours that are up."""
        own = self._own
        return tuple(
            Target(server.url, server.options.topology, server.backend.models, owned=True)
            for server in self.servers.up
            if server is not own
        )

    @property
    def log_name(self) -> str:
        """The log of the server of ours that starts, or else of the one that is loaded."""
        own, newest = self._own, self.servers.log
        if newest is None or (own is not None and self.servers.starting is None and not self.away):
            return own.log.name if own is not None else ""
        return newest.name

    @property
    def transport(self) -> Transport:
        """How it is reached."""
        return self._transport

    async def probe(self, url: str, models: Collection[str]) -> None:
        """Learns what the server at ``url`` is; ``models`` are those asked for. Raises TargetError."""
        self.info = await probe(url, self._request.transport)
        # A backend of ours serves what was asked for: all of it is meant, in the order of the command line.
        self._own = self.servers.at(url)
        ours = self._own.backend.models if self._own is not None else ()
        scenario = self._request.scenario
        api = Api() if scenario is None else scenario.api
        self.models = choose_models(self.info, models or ours, unlisted=not api.generates)
        self.mix = models if isinstance(models, Mapping) else {}
        self.shares = shares_of(self.mix, printable_names(self.models))
        await check_served(self.info, api, self.models, self._request.transport)

    def learn_engines(self, facts: Any) -> None:
        """Takes in what the engines say of themselves now, from an answer to ``/rvtop/topology``: replicas
        come and go."""
        if self.info is not None:
            self.info = with_engines(self.info, facts)

    async def start_backend(self, models: Collection[str]) -> None:
        """Starts the backend of the request and probes it. Raises TargetError, Interrupted."""
        options = self._request.backend
        assert options is not None
        began_ns = perf_counter_ns()
        server = await self.servers.start(options)
        self.start_s = (perf_counter_ns() - began_ns) / 1e9
        await self.probe(server.url, models)

    def _ended(self, server: OwnServer, code: int) -> None:
        """A server of ours ended by itself."""
        if self._ending.stop is not None or not self._is_running():
            return
        text = f"the backend ended with exit code {code}: {server.backend.log_tail(1)}".rstrip(": ")
        if self.info is None or self.info.url == server.url:
            self._ending.fail("target_lost", text)
        else:
            self._feed.say(f"{server.options.topology} at {server.url}: {text}", "warn", "target")

    # -- while it runs -----------------------------------------------------------------------

    def expect_answers(self, pages: frozenset[str]) -> None:
        """From now on its silence counts. ``pages`` names the telemetry sources that it answers itself."""
        self._pages = pages
        self._silence = TargetWatch(self._responds, self._say_silence)

    def _say_silence(self, text: str, level: str) -> None:
        if not self.away:
            self._feed.say(text, level, "target")

    def watch(self) -> None:
        """Begins to ask it whether it is there, where its answers do not tell."""
        assert self._silence is not None
        self._silence.start()
        self._loss = LossWatch(perf_counter_ns(), self._answers, self._lost)

    def go_over(
        self, info: TargetInfo, models: tuple[str, ...], transport: Transport, pages: frozenset[str]
    ) -> None:
        """The load goes to another server now, which was probed; ``pages`` as in :meth:`expect_answers`. A
        backend of ours runs on, and may be come back to."""
        self.info, self.models, self._transport, self._pages = info, models, transport, pages
        self.shares = shares_of(self.mix, printable_names(models))
        self._own, self.away = self.servers.at(info.url), False
        if self._silence is not None:
            self._silence.begin_anew()
        if self._loss is not None:
            self._loss.begin_anew(perf_counter_ns())

    def models_at(self, info: TargetInfo) -> tuple[str, ...]:
        """The models to send to at another server where nobody names them: those that have a share, unless
        others were named since, which it serves too; else those of before if it serves them, else its own."""
        if self.info is not None and not set(self.models) <= set(self.info.models):
            return self.models  # what embeds beside an LLM, and no server lists
        if self.shares or not set(self.models) <= set(info.models):
            meant = matching(list(self.mix), printable_names(info.models))
            if meant:
                shown = dict(zip(printable_names(info.models), info.models, strict=True))
                return tuple(shown[name] for name in meant)
        return self.models if has_models(info, self.models, self.info) else bases(info)

    def on_delta(self, delta: Delta) -> None:
        """A worker's delta may show that it answered: be it with a refusal."""
        answered = delta.chunks or delta.ok or any(kind.startswith("http_") for kind in delta.errors)
        if self._silence is not None and answered:
            self._silence.answered()

    def on_page(self, source: str) -> None:
        """A telemetry source answered."""
        if self._silence is not None and source in self._pages:
            self._silence.answered()

    def check(self, live: LiveState, now_ns: int) -> None:
        """Once a second, with what the load has seen of it."""
        if self._loss is not None and not self.away:
            self._loss.check(live, now_ns)

    @property
    def down_s(self) -> float | None:
        """Seconds since it last answered, while it does not; else None."""
        return None if self._silence is None or self.away else self._silence.down_s

    async def _answers(self) -> bool:
        assert self.info is not None
        return await answers(self.info.url, self._transport)

    async def _responds(self) -> bool:
        assert self.info is not None
        return await answers(self.info.url, self._transport, ANSWER_S)

    def _lost(self) -> None:
        assert self.info is not None
        if self._is_running():
            self._ending.fail(
                "target_lost", f"{self.info.url}: the target is lost (nothing answers there any more)"
            )

    # -- its end -----------------------------------------------------------------------------

    async def stop_watching(self) -> None:
        """Asks and watches no more."""
        if self._silence is not None:
            await self._silence.close()
        if self._loss is not None:
            await self._loss.close()

    @property
    def own(self) -> OwnServer | None:
        """The server that is loaded, if we started it."""
        return self._own
