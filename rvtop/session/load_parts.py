"""What a session hands to its load, and a second of that load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rvtop.session.cluster_watch import ClusterWatch
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.kv_watch import KvWatch
from rvtop.session.load_target import LoadTarget
from rvtop.session.played import Played
from rvtop.session.recorder import Recorder
from rvtop.session.request import SessionRequest
from rvtop.session.server_figures import ServerFigures
from rvtop.session.wakeup import Wakeup


@dataclass(frozen=True)
class Parts:
    """What a session has from its beginning, and its load uses."""

    request: SessionRequest
    wakeup: Wakeup
    feed: EventFeed
    ending: Ending
    recorder: Recorder
    target: LoadTarget
    figures: ServerFigures
    played: Played
    kv: KvWatch
    cluster: ClusterWatch


@dataclass(frozen=True)
class Second:
    """One second of the run is over. ``row`` is its line of ``timeline.jsonl``; ``last``: the load is over
    too."""

    now_ns: int
    row: dict[str, Any]
    last: bool
