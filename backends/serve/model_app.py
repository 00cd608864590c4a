"""One of our applications in Serve, as the head knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from backends.cluster.cluster import ResourceShare


@dataclass
class App:
    """The Serve application of one model. ``count`` replicas of ``share`` each (``fixed``: never fewer);
    ``up`` says whether one of them was ready when last asked, ``seen`` which ever were. ``model``, ``path``
    and the rest are what ``/v1/models`` says. Its engines are the replicas of the deployment whose name
    begins with ``deployment``."""

    app: str
    prefix: str
    name: str
    path: str
    share: ResourceShare
    count: int
    created: int = field(default_factory=lambda: int(time.time()))
    max_model_len: int = 0
    up: bool = False
    fixed: bool = True
    deployment: str = ""
    seen: set[str] = field(default_factory=set)

    @property
    def restarts(self) -> int:
        """How many replicas Serve started in place of one that died. (When it follows the load, which start
        replaced one is Serve's to know: 0.)"""
        return max(0, len(self.seen) - self.count) if self.fixed else 0
