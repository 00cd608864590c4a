"""The cluster that the engines run in: its head and its nodes, as a snapshot shows them."""

from __future__ import annotations

from dataclasses import dataclass

#: States of a node, the worst last.
NODE_STATES = ("alive", "draining", "silent", "dead")


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node. ``left_s``: seconds until one that drains goes, None where nobody says; ``silent_s``: since it
    last answered, while it does not; ``engines``: names of those on it."""

    name: str
    state: str = "alive"  # one of NODE_STATES
    left_s: float | None = None
    silent_s: float | None = None
    engines: tuple[str, ...] = ()
    head: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """``head_lost_s``: seconds since Ray's head (its GCS) last answered, while it does not: then nothing is
    scaled, placed or started again, and what serves goes on serving."""

    nodes: tuple[ClusterNode, ...] = ()
    head_lost_s: float | None = None

    @property
    def trouble(self) -> tuple[ClusterNode, ...]:
        """The nodes that are not simply there, the worst first."""
        found = [node for node in self.nodes if node.state != "alive"]
        return tuple(sorted(found, key=lambda node: -NODE_STATES.index(node.state)))
