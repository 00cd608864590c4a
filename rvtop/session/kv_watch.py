"""The prefix caches of the target's engines during a session: from where their KV events come, what is noted
of them each second, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rvtop.session.events import EventFeed
from rvtop.stats.kv_map import EngineMap, KvMap, row_of
from rvtop.target.probe import TargetInfo
from rvtop.telemetry.discover import is_loopback
from rvtop.telemetry.kv_events import KvEvents, KvSource, missing, wrong_with

#: In the path of every socket of our engines: a server can't have us write to another one.
_OURS = "/rvtop-"


class KvWatch:
    """``given`` are the sources of the command line, which belong to the first target; a backend of ours
    names its own. ``picture`` is None where no engine publishes."""

    def __init__(self, given: Sequence[KvSource], feed: EventFeed) -> None:
        self._given = tuple(given)
        self._feed = feed
        self._first = ""  # URL of the first target
        self._events: KvEvents | None = None
        self._said: dict[str, EngineMap] = {}  # of each engine what was said last

    @property
    def picture(self) -> KvMap | None:
        """The caches now."""
        return self._events.picture if self._events is not None else None

    def start(self, info: TargetInfo) -> None:
        """Begins to read what the engines of ``info`` publish."""
        self._said.clear()
        self._first = self._first or info.url
        sources = self._given if self._given and info.url == self._first else sources_of(info)
        if not sources:
            return
        self._events = KvEvents(sources)
        self._events.start()
        if why := missing():
            self._feed.say(f"KV map: {why}", "warn", "cache")
        else:
            engines = "an engine" if len(sources) == 1 else f"{len(sources)} engines"
            self._feed.say(f"KV map: reads the events of {engines}; key 6 shows it", kind="cache")

    async def move(self, info: TargetInfo) -> None:
        """Reads those of another target from now on."""
        await self.stop()
        self.start(info)

    async def stop(self) -> None:
        """Reads no more."""
        events, self._events = self._events, None
        if events is not None:
            await asyncio.to_thread(events.stop)

    def note(self, row: dict[str, Any]) -> None:
        """Once a second: notes the caches in its row of the timeline, and says what has begun or was lost."""
        now = self.picture
        if now is None:
            return
        row["kv_map"] = row_of(now)
        for engine in now.engines:
            before = self._said.get(engine.name, EngineMap(engine.name))
            for text, level in news_of(before, engine):
                self._feed.say(f"{engine.name}: {text}", level, "cache")
            self._said[engine.name] = engine


def news_of(before: EngineMap, now: EngineMap) -> list[tuple[str, str]]:
    """What is to be said of an engine's cache since the look before, each with its level."""
    said = []
    if now.lost > before.lost:
        count = now.lost - before.lost
        state = "" if now.complete else "; its KV map is incomplete until the cache is reset"
        said.append((f"{count} batch{'es' if count > 1 else ''} of KV events lost{state}", "warn"))
    if now.restarts > before.restarts:
        said.append(("publishes anew; its KV map begins empty", "info"))
    if now.storm and not before.storm:
        back = round(100 * (now.back_share or 0.0))
        text = f"eviction storm: in 10 s half of its {now.cached} cached blocks and more were evicted"
        said.append((f"{text}; {back} % of those stored had been evicted before", "warn"))
    return said


def sources_of(info: TargetInfo) -> list[KvSource]:
    """Where the engines of a backend of ours publish, as its topology says: Unix sockets of this machine."""
    if not is_loopback(info.url):
        return []
    return [
        KvSource(row["engine"], row["url"], row.get("replay"), row.get("model", ""))
        for row in info.kv_events
        if all(_OURS in url and url.startswith("ipc:") and not wrong_with(url) for url in _urls(row))
    ]


def _urls(row: dict[str, str]) -> list[str]:
    return [row[name] for name in ("url", "replay") if name in row]
