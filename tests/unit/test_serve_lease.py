"""When the head takes the lease on its Serve applications for lapsed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from backends.serve import lease_actor
from backends.serve.lease_actor import ServeLease

GONE = ActorDiedError()
#: What Ray says of an actor on a node that was announced to go and went, before it starts the actor again.
PREEMPTED = ActorDiedError(
    ActorDiedErrorContext(
        actor_id=bytes(16), node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED)
    )
)
AWAY = ActorUnavailableError("it is started again", None)


async def beats(monkeypatch: pytest.MonkeyPatch, *answers: RayError | None) -> int:
    """How many heartbeats were sent until it lapsed, where the first ones are answered so and those after
    them well; -1 where it did not lapse."""
    sent = 0
    enough = asyncio.Event()

    async def beat() -> None:
        nonlocal sent
        sent += 1
        if sent > len(answers) + 2:
            enough.set()
        if sent <= len(answers) and (error := answers[sent - 1]) is not None:
            raise error

    monkeypatch.setattr(lease_actor, "BEAT_S", 0.0)
    lease = ServeLease(SimpleNamespace(beat=SimpleNamespace(remote=beat)))
    lapsed = asyncio.create_task(lease.lapsed())
    going_on = asyncio.create_task(enough.wait())
    await asyncio.wait([lapsed, going_on], return_when=asyncio.FIRST_COMPLETED)
    ended = lapsed.done()
    for task in (lapsed, going_on, lease._beating):
        task.cancel()
    await asyncio.gather(lapsed, going_on, lease._beating, return_exceptions=True)
    return sent if ended else -1


async def test_it_lapses_when_the_actor_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await beats(monkeypatch, None, GONE) == 2


@pytest.mark.parametrize("error", [PREEMPTED, AWAY])
async def test_an_actor_that_is_started_again_is_waited_for(
    error: RayError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sort ended the whole backend when the node with the actor went as announced."""
    assert error is not PREEMPTED or PREEMPTED.preempted
    assert await beats(monkeypatch, None, error, error) == -1
    assert await beats(monkeypatch, error, GONE) == 2
