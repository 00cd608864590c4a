"""How the state of a cluster's nodes is said: on the map and in the list of nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rvtop.contract.cluster import Cluster, ClusterNode
from rvtop.ui.draw import Line
from rvtop.ui.format import age
from rvtop.ui.theme import Styles


def node_words(node: ClusterNode) -> str:
    """``draining 42 s``; "" for a node that is simply there."""
    if node.state == "draining":
        return "draining" if node.left_s is None else f"draining {age(node.left_s)}"
    if node.state == "silent":
        return f"no answer {age(node.silent_s or 0.0)}"
    return "gone" if node.state == "dead" else ""


def put_state(line: Line, node: ClusterNode, styles: Styles) -> Line:
    """``line`` with the node's state behind it."""
    style = styles.attention if node.state == "draining" else styles.trouble
    return line.put(f"  {node_words(node)}", style)


def put_states(line: Line, cluster: Cluster | None, engines: Iterable[str], styles: Styles) -> Line:
    """``line``, the head of a node's ``engines`` on the map, with the state of the node behind it; where
    these are engines of several nodes of one machine, with the engines that each state is of."""
    names = frozenset(engines)
    for node in cluster.trouble if cluster is not None else ():
        held = names & set(node.engines)
        if held and node.state != "dead":
            if held != names:
                line.put(f"  {', '.join(sorted(held))}:", styles.quiet)
            put_state(line, node, styles)
    return line


def further_lines(cluster: Cluster | None, headed: Iterable[str], styles: Styles) -> list[Line]:
    """A line for each node that is to go or does not answer and has none of the engines in ``headed``, beside
    which that is said."""
    names = frozenset(headed)
    found = [node for node in (cluster.trouble if cluster is not None else ()) if node.state != "dead"]
    return [
        put_state(Line(f"  {node.name}", styles.quiet), node, styles)
        for node in found
        if not names & set(node.engines)
    ]


def state_of(cluster: Cluster | None, name: str) -> ClusterNode | None:
    """The node of that name if it is not simply there."""
    return next((node for node in (cluster.trouble if cluster else ()) if node.name == name), None)
