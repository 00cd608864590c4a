"""Admission: order, fairness between engines, 429 at the limit, 503 without an engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from backends.api.admission import Admission, Slot
from backends.engines.protocol import EngineInfo
from backends.errors import ApiError


@dataclass
class FakeEngine:
    """Only what admission looks at."""

    info: EngineInfo


def engine(name: str = "e0", concurrency: int = 1, own_queue: bool = False) -> FakeEngine:
    return FakeEngine(
        EngineInfo(
            engine=name,
            kind="fake",
            model="m",
            node="n",
            pid=1,
            devices=("cpu",),
            dtype="float32",
            concurrency=concurrency,
            max_model_len=10,
            own_queue=own_queue,
        )
    )


async def waiting_tasks(admission: Admission, count: int) -> list[asyncio.Task[Slot]]:
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(admission.acquire()))
        await asyncio.sleep(0)
    return tasks


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def status_of(admission: Admission) -> int:
    with pytest.raises(ApiError) as caught:
        await admission.acquire()
    return caught.value.status


async def test_slots_go_to_those_who_wait_in_order() -> None:
    admission = Admission([engine()], max_queue=10)
    first = await admission.acquire()
    tasks = await waiting_tasks(admission, 3)
    assert admission.queued == admission.waiting == 3
    order = []
    for _ in range(3):
        first.release()
        await settle()
        done = [number for number, task in enumerate(tasks) if task.done() and number not in order]
        order += done
        first = tasks[done[0]].result()
    assert order == [0, 1, 2]
    first.release()
    assert admission.in_flight("e0") == 0


async def test_a_newcomer_does_not_overtake() -> None:
    admission = Admission([engine()])
    slot = await admission.acquire()
    (waiter,) = await waiting_tasks(admission, 1)
    slot.release()
    newcomer = asyncio.create_task(admission.acquire())
    await settle()
    assert waiter.done()
    assert not newcomer.done()
    newcomer.cancel()


async def test_full_queue_is_429_with_retry_after() -> None:
    admission = Admission([engine()], max_queue=2)
    await admission.acquire()
    tasks = await waiting_tasks(admission, 2)
    with pytest.raises(ApiError) as caught:
        await admission.acquire()
    assert caught.value.status == 429
    assert int(caught.value.headers()["Retry-After"]) >= 1
    with pytest.raises(ApiError):
        admission.check()
    for task in tasks:
        task.cancel()


async def test_no_queue_at_all_still_runs_one() -> None:
    admission = Admission([engine()], max_queue=0)
    slot = await admission.acquire()
    assert await status_of(admission) == 429
    slot.release()
    await admission.acquire()


async def test_unlimited_queue() -> None:
    admission = Admission([engine()], max_queue=None)
    await admission.acquire()
    tasks = await waiting_tasks(admission, 2000)
    assert admission.queued == 2000
    for task in tasks:
        task.cancel()
    await settle()
    assert admission.queued == 0


async def test_least_in_flight_then_in_turn() -> None:
    engines = [engine(f"e{n}", concurrency=2) for n in range(3)]
    admission = Admission(engines)
    slots = [await admission.acquire() for _ in range(3)]
    assert {slot.engine.info.engine for slot in slots} == {"e0", "e1", "e2"}
    slots[1].release()
    again = await admission.acquire()
    assert again.engine is slots[1].engine


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    admission = Admission([engine()])
    slot = await admission.acquire()
    first, second = await waiting_tasks(admission, 2)
    first.cancel()
    await settle()
    assert admission.queued == 1
    slot.release()
    await settle()
    assert second.done()


async def test_a_slot_given_in_the_moment_of_cancellation_is_given_on() -> None:
    admission = Admission([engine()])
    slot = await admission.acquire()
    first, second = await waiting_tasks(admission, 2)
    slot.release()  # hands the slot to `first` …
    first.cancel()  # … which is cancelled before it runs
    await settle()
    assert second.done()
    second.result().release()
    assert admission.in_flight("e0") == 0


async def test_release_counts_once() -> None:
    admission = Admission([engine()])
    slot = await admission.acquire()
    slot.release()
    slot.release()
    assert admission.in_flight("e0") == 0


async def test_engines_with_their_own_queue_get_everything_up_to_the_limit() -> None:
    admission = Admission([engine(concurrency=2, own_queue=True)], max_queue=3)
    slots = [await admission.acquire() for _ in range(5)]
    assert admission.waiting == 3
    assert admission.queued == 0
    assert await status_of(admission) == 429
    slots[0].release()
    await admission.acquire()


async def test_down_means_503_also_for_those_who_wait() -> None:
    admission = Admission([engine()])
    await admission.acquire()
    (waiter,) = await waiting_tasks(admission, 1)
    admission.set_up("e0", False)
    await settle()
    with pytest.raises(ApiError) as caught:
        waiter.result()
    assert caught.value.status == 503
    assert await status_of(admission) == 503
    assert not admission.ready
    admission.set_up("e0", True)
    assert admission.ready


async def test_an_engine_that_is_lost_does_not_swallow_the_queue() -> None:
    admission = Admission([engine("a"), engine("b")])
    on = {slot.engine.info.engine: slot for slot in [await admission.acquire() for _ in range(2)]}
    waiters = await waiting_tasks(admission, 2)
    on["a"].mark_down()
    on["a"].release()
    await settle()
    assert not any(waiter.done() for waiter in waiters)
    on["b"].release()
    assert (await waiters[0]).engine.info.engine == "b"
    admission.set_up("a", True)
    assert (await waiters[1]).engine.info.engine == "a"


async def test_what_is_told_of_an_engines_life_before_is_not_believed() -> None:
    admission = Admission([engine()])
    slot = await admission.acquire()
    assert admission.restarts("e0") == 0
    admission.set_up("e0", False)
    assert admission.restarts("e0") == 0
    admission.set_up("e0", True)
    assert admission.restarts("e0") == 1
    slot.mark_down()
    assert admission.ready


async def test_engines_come_and_go() -> None:
    admission = Admission([engine("a")])
    await admission.acquire()
    (waiter,) = await waiting_tasks(admission, 1)
    admission.add(engine("b"))
    await settle()
    assert waiter.result().engine.info.engine == "b"
    admission.remove("a")
    assert [e.info.engine for e in admission.engines] == ["b"]


async def test_closing_refuses_and_fails_waiters() -> None:
    admission = Admission([engine()])
    await admission.acquire()
    (waiter,) = await waiting_tasks(admission, 1)
    admission.close()
    await settle()
    assert isinstance(waiter.exception(), ApiError)
    assert await status_of(admission) == 503
