"""What binds a system: planted bottlenecks of a queueing model are named, and nothing is on a sound one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rvtop.stats.verdict import Judge
from rvtop.stats.verdict_figures import Server
from rvtop.stats.verdict_said import Verdict
from tests.unit.serving_model import Model, Setup


def server_of(setup: Setup) -> Server:
    places = {str(i): setup.places for i in range(len(setup.slow))} if setup.tells_places else {}
    return Server(places=places, step_tokens=setup.budget if setup.tells_places else None, gpus=True)


def judged(setup: Setup, server: Server | None = None) -> list[Verdict | None]:
    """The verdict that stood at each second."""
    judge = Judge()
    judge.begin_at(server or server_of(setup))
    stood = []
    for row in Model(setup).rows():
        judge.look(row)
        stood.append(judge.now)
    return stood


SOUND = Setup()
PLANTED = {
    "client: its CPU": ("client", replace(SOUND, rates=((40, 30),), send_ms=34)),
    "router: a starved front end": ("router", replace(SOUND, front_ms=118, rates=((40, 7.5),))),
    "router: a proxy that holds tokens": ("router", replace(SOUND, hold_ms=120)),
    "batch": ("batch", replace(SOUND, places=4, rates=((40, 30),))),
    "batch whose places nobody tells": (
        "batch",
        replace(SOUND, places=4, rates=((40, 30),), tells_places=False, prompt=30),
    ),
    "KV cache: preemptions": ("KV cache", replace(SOUND, blocks=40, rates=((40, 20),), output=120)),
    "KV cache: no room to begin": (
        "KV cache",
        replace(SOUND, blocks=120, prompt=600, output=8, rates=((40, 20),), step_ms=20),
    ),
    "prefill": (
        "prefill",
        replace(SOUND, prompt=1500, output=8, budget=512, token_ms=0.06, rates=((40, 14),)),
    ),
    "decode": ("decode", replace(SOUND, rates=((25, 1), (35, 9)), seq_ms=1.5, output=60)),
    "decode in a full batch": ("decode", replace(SOUND, rates=((25, 2), (40, 16)), seq_ms=1.5, output=60)),
    "replicas: a full queue": ("replicas", replace(SOUND, max_ongoing=2, rates=((40, 12),))),
    "replicas: one that starts": (
        "replicas",
        replace(SOUND, max_ongoing=4, wanted=3, places=4, rates=((40, 40),)),
    ),
    "one at a time": ("one at a time", replace(SOUND, places=1, rates=((40, 8),))),
    "one engine": (
        "one engine",
        replace(SOUND, slow=(1, 1, 4, 1), places=4, rates=((40, 40),), skewed=(1, 1, 1, 1)),
    ),
}


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_bottleneck_is_named(plant: str, seed: int) -> None:
    name, setup = PLANTED[plant]
    stood = judged(replace(setup, seed=seed))
    last = [verdict.name for verdict in stood[-5:] if verdict is not None]
    assert last == [name] * 5, [(i, v.name, v.figures) for i, v in enumerate(stood) if v is not None][::4]


HEALTHY = {
    "as it is": SOUND,
    "a rate that was raised": replace(SOUND, rates=((25, 4), (35, 12))),
    "four engines": replace(SOUND, slow=(1, 1, 1, 1), rates=((35, 20),)),
    "Ray Serve": replace(SOUND, max_ongoing=64),
    "places that nobody tells": replace(SOUND, tells_places=False),
    "one slot that is enough": replace(SOUND, places=1, rates=((40, 1),)),
    "long prompts": replace(SOUND, prompt=1500, rates=((35, 4),)),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_named_on_a_sound_run(case: str) -> None:
    stood = [verdict for verdict in judged(HEALTHY[case]) if verdict is not None]
    assert [verdict for verdict in stood if verdict.binds] == []
    assert stood[-1].name == "nothing", (stood[-1], stood[-1].rules)


UNKNOWN = {
    "a server without figures of its own": (
        replace(SOUND, places=4, rates=((40, 30),), tells_engine=False),
        "/metrics",
    ),
    "a rate that never stands still": (
        replace(SOUND, rates=tuple((3.0, 2.0 + 0.2 * i) for i in range(12))),
        "20 s of one rate",
    ),
    "a load that has just begun": (replace(SOUND, rates=((8, 8),)), "10 s of load"),
    "a GPU that is always busy, and no lower rate before": (
        replace(SOUND, rates=((40, 16),), seq_ms=1.2, output=40),
        "fit no rule",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_the_figures_do_not_tell_is_not_known(case: str) -> None:
    setup, needs = UNKNOWN[case]
    stood = [verdict for verdict in judged(setup) if verdict is not None]
    assert {verdict.name for verdict in stood} == {"not known yet"}
    assert needs in stood[-1].why
