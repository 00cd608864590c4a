"""Pictures of what is in the prefix caches of engines, as the screen and a summary read them. Plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: Edges of the heat map's columns: seconds since a block was stored; the last column is all that is older.
AGE_EDGES_S = (1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)
#: The fewest requests of each of its rows: 1, 2, 3 or 4, 5 to 8, …
SHARE_EDGES = (1, 2, 3, 5, 9, 17)
#: A storm: within STORM_S so much of what is cached is evicted, and at least so many blocks; and of what is
#: stored so much had been evicted before. (Where each prompt is another one, blocks go, and nothing is lost.)
STORM_S = 10.0
STORM_SHARE = 0.5
STORM_BLOCKS = 50
STORM_BACK = 0.1


@dataclass(frozen=True, slots=True)
class Prefix:
    """A beginning that several requests have in common. ``level``: how many of the listed ones lie before it;
    ``blocks``: its length (None where its first blocks are not known); ``requests``: seen to use it;
    ``share``, 0..1: of the requests seen to begin, how many branch off at its end or behind it."""

    level: int
    blocks: int | None
    requests: int
    branches: int
    share: float | None
    age_s: float


@dataclass(frozen=True, slots=True)
class EngineMap:
    """The prefix cache of one engine: what was stored less what was removed.

    ``cached`` counts different blocks, ``copies`` those that are there once more; ``shared`` blocks were seen
    in more than one request. ``heat``: blocks by SHARE_EDGES (rows) and AGE_EDGES_S. ``back_share``: of the
    blocks stored in the last STORM_S seconds, how many had been evicted before. ``complete``: no batch of
    events is missing since the cache was empty; else ``why`` says what is. None: not known.
    """

    name: str
    cached: int = 0
    copies: int = 0
    shared: int = 0
    block_tokens: int | None = None
    stored_per_s: float | None = None
    evicted_per_s: float | None = None
    back_share: float | None = None
    storm: bool = False
    requests: int = 0  # seen to begin
    hits: int = 0  # of these, seen to branch off a cached beginning
    heat: tuple[tuple[int, ...], ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    lost: int = 0  # batches
    replayed: int = 0
    restarts: int = 0
    complete: bool = False
    why: str = ""

    @property
    def hit_share(self) -> float | None:
        """Of the requests seen to begin, how many found a beginning of theirs: at least so many."""
        return self.hits / self.requests if self.requests else None

    @property
    def top_share(self) -> float | None:
        """The hit share of the prefix that most requests use."""
        shares = [prefix.share for prefix in self.prefixes if prefix.share is not None]
        return max(shares, default=None)


@dataclass(frozen=True, slots=True)
class Locality:
    """Several engines: of the requests for which one of them held a beginning (``offered``), how many went to
    the one that held the longest (``taken``). ``comparable``: a block was seen in two engines, so that their
    hashes mean the same; without, nothing can be said."""

    offered: int = 0
    taken: int = 0
    comparable: bool = False

    @property
    def share(self) -> float | None:
        return self.taken / self.offered if self.comparable and self.offered else None


@dataclass(frozen=True, slots=True)
class KvMap:
    """The caches of all engines that tell. ``locality`` is None for a single one. ``note``: why there is no
    map, in one line."""

    engines: tuple[EngineMap, ...] = ()
    locality: Locality | None = None
    note: str = ""


def row_of(kv: KvMap) -> dict[str, Any]:
    """What a second's line of ``timeline.jsonl`` holds of it: all engines together. ``requests``, ``hits``,
    ``offered`` and ``taken`` count since rvtop began to watch."""
    engines, locality = kv.engines, kv.locality
    shares = [engine.top_share for engine in engines if engine.top_share is not None]
    return {
        "engines": len(engines),
        "cached": sum(engine.cached for engine in engines),
        "copies": sum(engine.copies for engine in engines),
        "shared": sum(engine.shared for engine in engines),
        "stored_per_s": _sum(engine.stored_per_s for engine in engines),
        "evicted_per_s": _sum(engine.evicted_per_s for engine in engines),
        "storms": sum(engine.storm for engine in engines),
        "requests": sum(engine.requests for engine in engines),
        "hits": sum(engine.hits for engine in engines),
        "top_share": max(shares, default=None),
        "offered": locality.offered if locality is not None and locality.comparable else None,
        "taken": locality.taken if locality is not None and locality.comparable else None,
        "lost": sum(engine.lost for engine in engines),
        "complete": bool(engines) and all(engine.complete for engine in engines),
    }


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
