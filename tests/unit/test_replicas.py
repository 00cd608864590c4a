"""Replicas from a backend's page to the screen's series, the events and the summary."""

from __future__ import annotations

from typing import Any

import pytest

from backends.scaling.counts import Counts, page
from rvtop.contract.replicas import Replicas, counts_line, is_scaled, result_line
from rvtop.results.scaling import scaling_summary
from rvtop.session.replica_watch import ReplicaWatch
from rvtop.telemetry.prometheus import PageReader
from rvtop.telemetry.sample import DeploymentSample, Sample
from rvtop.telemetry.state import ServerState


def test_the_page_of_a_backend_is_read_back() -> None:
    text = page({'a"b': Counts(3, 1, 2, 0, 1, nodes=2), "m": Counts(1, 0, 1, 1)}, {"m": 4.0})
    assert PageReader().read(text).replicas == (
        Replicas('a"b', 3, 1, 2, 0, pending=1, nodes=2),
        Replicas("m", 1, 0, 1, 1, target_requests=4.0, pending=0),
    )


def test_our_own_page_counts_before_serves() -> None:
    state = ServerState()
    serve = DeploymentSample("app/hf", replicas=1, target_replicas=3)
    state.apply(Sample(0, "ray", deployments=(serve,)))
    (told,) = state.view(0).replicas
    assert (told.model, told.wanted, told.starting, told.healthy) == ("app/hf", 3, 2, 1)
    state.apply(Sample(0, "metrics", replicas=(Replicas("m", 3, 1, 1, 1),)))
    assert state.view(0).replicas == (Replicas("m", 3, 1, 1, 1),)
    state.apply(Sample(5 * 10**9, "ray", deployments=(serve,)))  # our page is late: no other names meanwhile
    assert state.view(5 * 10**9).replicas == ()
    assert [each.model for each in state.view(10**10).replicas] == []  # both are stale


def test_what_is_scaled() -> None:
    assert not is_scaled((), ())
    assert not is_scaled((None, 2.0, 2.0), (None, 2.0, 2.0))
    assert is_scaled((1.0, 2.0), (1.0, 1.0))
    assert is_scaled((1.0, 1.0), (2.0, 1.0))
    assert (
        counts_line([Replicas("a", 3, 1, 2, 0), Replicas("b", 1, 0, 1, 1)])
        == "3 of 4, 1 starting, 1 draining"
    )


def row(
    t_s: int, in_flight: int, wanted: int, starting: int, healthy: int, draining: int, *engines: str
) -> Any:
    one = Replicas("m", wanted, starting, healthy, draining, target_requests=4.0)
    names = ("wanted", "starting", "healthy", "draining")
    return {
        "t_s": float(t_s),
        "in_flight": in_flight,
        "replicas": [
            {name: getattr(one, name) for name in ("model", *names, "target_requests", "pending", "nodes")}
        ],
        **{f"replicas_{name}": getattr(one, name) for name in names},
        "engines": [{"name": name, "tokens_per_s": 5.0} for name in engines],
    }


COURSE = [
    row(1, 1, 1, 0, 1, 0, "e0"),
    row(2, 8, 1, 0, 1, 0, "e0"),
    row(3, 8, 1, 0, 1, 0, "e0"),
    row(4, 8, 2, 1, 1, 0, "e0"),
    row(5, 8, 2, 1, 1, 0, "e0"),
    row(6, 8, 2, 0, 2, 0, "e0", "e1"),
    row(7, 1, 2, 0, 2, 0, "e0", "e1"),
    row(8, 1, 1, 0, 1, 1, "e0", "e1"),
    row(9, 1, 1, 0, 1, 0, "e0"),
]


def test_the_summary_of_a_course() -> None:
    found = scaling_summary(COURSE, [(0.0, 9.0)])
    assert found == {
        "first": 1,
        "most": 2,
        "last": 1,
        "ups": 1,
        "downs": 1,
        "replica_seconds": 3 * 1 + 5 * 2 + 1,
        "overshoot_replica_s": 2,  # seconds 7 and 8: two where one would do
        "first_token_s": 4.0,  # the load came in second 2, the new engine's tokens in second 6
    }
    assert result_line(found) == (
        "replicas 1 → 2 → 1, first token of a new one 4 s after the spike, 14 replica-seconds, 2 of them "
        "above what the load asked for"
    )
    assert scaling_summary(COURSE[:3], [(0.0, 9.0)]) is None
    assert result_line(None) == ""


def test_a_figure_that_is_not_told_is_missing() -> None:
    rows = [{**one, "replicas": [], "engines": []} for one in COURSE]
    found = scaling_summary(rows, [(0.0, 9.0)])
    assert found is not None
    assert (found["overshoot_replica_s"], found["first_token_s"]) == (None, None)
    assert "one -- after the spike" in result_line(found)
    assert "-- of them above" in result_line(found)


def test_changes_are_said() -> None:
    said: list[tuple[str, str, str]] = []
    watch = ReplicaWatch(lambda *told: said.append(told))
    for one in COURSE:
        watch.look(one)
    assert [text for text, *_ in said] == [
        "m: more replicas wanted, 1 → 2",
        "m: 2 of 2 replicas answer after 2 s",
        "m: fewer replicas wanted, 2 → 1",
        "m: 1 of 1 replicas answer after 0 s, 1 draining",
    ]
    watch.look(row(10, 1, 1, 1, 0, 0))
    assert said[-1] == ("m: 0 of 1 replicas answer", "warn", "scale")


def test_places_are_said() -> None:
    """A replica that has no place, the node that comes for it, and its end."""
    said: list[str] = []
    watch = ReplicaWatch(lambda text, level, kind: said.append(text))
    for wanted, starting, healthy, pending, nodes in (
        (1, 0, 1, 0, 1),
        *[(2, 1, 1, 1, 1)] * 4,
        *((2, 1, 1, 1, 2), (2, 1, 1, 0, 2)),
        *((2, 0, 2, 0, 2), (1, 0, 1, 0, 2), (1, 0, 1, 0, 1)),
    ):
        one = row(1, 0, wanted, starting, healthy, 0)
        one["replicas"][0] |= {"pending": pending, "nodes": nodes}
        watch.look(one)
    assert said == [
        "m: more replicas wanted, 1 → 2",
        "m: 1 pending, no node has room for it yet",
        "cluster: node added, 1 → 2 nodes",
        "m: 2 of 2 replicas answer after 0 s",
        "m: fewer replicas wanted, 2 → 1",
        "m: 1 of 1 replicas answer after 0 s",
        "cluster: node removed, 2 → 1 nodes",
    ]


@pytest.mark.parametrize("state", ["sleeping", ""])
def test_a_state_that_is_unknown_is_left_out(state: str) -> None:
    text = f'# TYPE rvtop:replicas gauge\nrvtop:replicas{{model_name="m",state="{state}"}} 1\n'
    assert PageReader().read(text).replicas == ()
