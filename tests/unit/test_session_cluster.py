"""What a backend says of its cluster becomes events and is shown; a clock that was set is said."""

from __future__ import annotations

import json

import pytest

from rvtop.contract.cluster import ClusterNode
from rvtop.session.cluster_watch import ClusterWatch
from rvtop.session.events import EventFeed
from rvtop.telemetry.cluster import cluster_page


def page(*texts: str, first: int = 1, **more: object) -> bytes:
    rows = [
        {"number": first + at, "unix_s": 0, "level": "warn", "text": text} for at, text in enumerate(texts)
    ]
    return json.dumps({"notices": rows, **more}).encode()


def said(feed: EventFeed) -> list[str]:
    return [event.text for event in feed.events]


def test_each_line_is_said_once_and_old_ones_are_no_news() -> None:
    feed = EventFeed()
    watch = ClusterWatch(feed)
    watch.take(cluster_page(page("before the session")))
    watch.take(cluster_page(page("before the session", "node h2 is gone")))
    watch.take(cluster_page(page("before the session", "node h2 is gone")))
    assert said(feed) == ["node h2 is gone"]
    assert [(event.level, event.kind) for event in feed.events] == [("warn", "cluster")]


def test_a_backend_that_started_anew_counts_from_one() -> None:
    feed = EventFeed()
    watch = ClusterWatch(feed)
    watch.take(cluster_page(page("a", "b", "c")))
    watch.take(cluster_page(page("Ray's head was lost with its state")))
    assert said(feed) == ["Ray's head was lost with its state"]


def test_its_nodes_are_shown_and_a_change_is_drawn() -> None:
    feed = EventFeed()
    watch = ClusterWatch(feed)
    node = {"name": "h2", "state": "draining", "left_s": 42, "engines": ["vllm-1"], "head": False}
    before = feed.seq
    watch.take(cluster_page(page(head_lost_s=None, nodes=[node])))
    assert feed.seq == before + 1
    assert watch.cluster is not None
    assert watch.cluster.nodes == (ClusterNode("h2", "draining", 42.0, None, ("vllm-1",)),)
    watch.take(cluster_page(page(head_lost_s=None, nodes=[node])))
    assert feed.seq == before + 1
    watch.take(cluster_page(page(head_lost_s=7.5, nodes=[node])))
    assert watch.cluster.head_lost_s == 7.5


def test_a_hostile_page_is_safe_or_refused() -> None:
    node = {"name": "h\x1b[2J", "state": "\x1b", "left_s": "soon", "engines": ["\u202e"], "head": 3}
    made = cluster_page(page("\x1b]0;x\x07", nodes=[node]))
    assert "\x1b" not in made.notices[0].text
    assert made.cluster is not None
    (shown,) = made.cluster.nodes
    assert (shown.state, shown.left_s, shown.head) == ("alive", None, False)
    assert "\x1b" not in shown.name
    assert "\u202e" not in shown.engines[0]
    far_off = json.dumps({"notices": [], "nodes": [node | {"left_s": 1}]})
    huge = far_off.replace('"left_s": 1', '"left_s": 1e999')
    far = cluster_page(huge).cluster
    assert far is not None
    assert far.nodes[0].left_s is None
    no_float = huge.replace("1e999", "9" * 400)
    no_number = '{"notices": [{"number": 1e999, "level": "info", "text": "x"}]}'
    for text in (no_float, no_number):
        with pytest.raises(ValueError, match="not the answer of a backend of ours"):
            cluster_page(text)
    for text in ("[]", '{"notices": 3}', '{"notices": [{}]}', '{"notices": [], "nodes": [1]}', "[" * 99999):
        with pytest.raises(ValueError, match="not the answer of a backend of ours"):
            cluster_page(text)
    with pytest.raises(ValueError, match="Expecting"):
        cluster_page("{")


def test_a_clock_that_is_set_is_said_once() -> None:
    ahead = [100.0]
    feed = EventFeed()
    watch = ClusterWatch(feed, lambda: ahead[0])
    for now in (100.5, 101.0, -3500.0, -3500.2):
        ahead[0] = now
        watch.check_clock()
    assert said(feed) == ["this machine's clock was set by -3601 s: times of day jump, figures do not"]
