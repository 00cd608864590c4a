"""The poller: independent sources, survival of any failure, a stop that leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from rvtop.telemetry.poller import PERIOD_S, Poller
from rvtop.telemetry.sample import EngineSample, Sample


class Scripted:
    """A source that does what it is told; counts its polls."""

    def __init__(self, name: str, do: Callable[[int], object] | None = None) -> None:
        self.name = name
        self.polls = 0
        self.closed = False
        self._do = do

    async def poll(self) -> Sample:
        self.polls += 1
        if self._do is not None:
            done = self._do(self.polls)
            if asyncio.iscoroutine(done):
                await done
        return Sample(time.perf_counter_ns(), self.name, (EngineSample("0"),))

    async def close(self) -> None:
        self.closed = True


class Collected:
    """A sink, and a way to wait for what it got."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, sample: Sample) -> None:
        with self._changed:
            self.samples.append(sample)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[Sample]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.samples), timeout=120), self.samples[-5:]

    def of(self, name: str) -> list[Sample]:
        return [sample for sample in list(self.samples) if sample.source == name]


def raise_(error: BaseException) -> None:
    raise error


def test_a_slow_source_does_not_delay_another() -> None:
    got = Collected()
    never = Scripted("never", lambda _: asyncio.Event().wait())
    poller = Poller([never, Scripted("quick")], got, period_s=0.02, timeout_s=60)
    poller.start()
    try:
        got.wait(lambda samples: len(samples) >= 10)
        assert {sample.source for sample in got.samples} == {"quick"}
        assert never.polls == 1
    finally:
        assert poller.stop(60.0)
    assert never.closed


def test_a_poll_that_takes_too_long_is_an_error_of_that_source() -> None:
    got = Collected()
    with_stall = Scripted("stalls", lambda n: asyncio.sleep(600) if n % 2 else None)
    poller = Poller([with_stall], got, period_s=0.02, timeout_s=0.05)
    poller.start()
    try:
        got.wait(lambda samples: len(samples) >= 4)
    finally:
        poller.stop()
    assert [sample.error for sample in got.samples[:4]] == ["no answer within 0.05 s", None] * 2


def test_a_source_that_raises_anything_is_a_sample_with_its_name() -> None:
    got = Collected()
    broken = Scripted("broken", lambda n: raise_(KeyError("x\ny")) if n == 1 else raise_(ZeroDivisionError()))
    poller = Poller([broken, Scripted("fine")], got, period_s=0.02)
    poller.start()
    try:
        got.wait(lambda _: len(got.of("broken")) >= 3 and len(got.of("fine")) >= 3)
    finally:
        poller.stop()
    assert [sample.error for sample in got.of("broken")[:3]] == [
        r"KeyError: 'x\ny'",
        "ZeroDivisionError",
        "ZeroDivisionError",
    ]
    assert {sample.error for sample in got.of("fine")} == {None}


def test_a_sink_that_fails_is_logged_and_the_polling_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    got = Collected()

    def sink(sample: Sample) -> None:
        got(sample)
        if len(got.samples) == 1:
            raise RuntimeError("sink")

    poller = Poller([Scripted("a")], sink, period_s=0.02)
    poller.start()
    try:
        got.wait(lambda samples: len(samples) >= 3)
    finally:
        poller.stop()
    assert [record.name for record in caplog.records] == ["rvtop.telemetry"]


def test_stop_joins_closes_and_silences() -> None:
    got = Collected()
    sources = [Scripted("a"), Scripted("b", lambda _: asyncio.sleep(600))]
    poller = Poller(sources, got, period_s=0.01)
    poller.start()
    got.wait(lambda samples: len(samples) >= 2)
    assert poller.stop(60.0)
    count = len(got.samples)
    assert got.threads == {"rvtop-telemetry"}
    assert "rvtop-telemetry" not in {thread.name for thread in threading.enumerate()}
    assert [source.closed for source in sources] == [True, True]
    time.sleep(0.05)
    assert len(got.samples) == count
    assert poller.stop(60.0)


def test_stop_at_once_and_stop_without_a_start() -> None:
    for _ in range(20):
        poller = Poller([Scripted("a")], lambda sample: None)
        poller.start()
        assert poller.stop(60.0)
    assert Poller([Scripted("a")], lambda sample: None).stop(60.0)


@pytest.mark.parametrize("rps", [1, 2, 4, 5, 8, 10])
def test_polls_are_not_in_step_with_a_load_at_whole_rates(rps: int) -> None:
    """Requests that fill a quarter of the time are seen, wherever in their second they lie."""
    moments = [poll * PERIOD_S * rps % 1 for poll in range(24)]
    for start in range(100):
        assert any((moment - start / 100) % 1 < 0.25 for moment in moments)


def test_no_sources_is_a_poller_with_nothing_to_do() -> None:
    poller = Poller([], lambda sample: None)
    poller.start()
    assert poller.stop(60.0)


def test_a_poller_starts_once() -> None:
    poller = Poller([Scripted("a")], lambda sample: None)
    poller.start()
    try:
        with pytest.raises(RuntimeError, match="started before"):
            poller.start()
    finally:
        poller.stop()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()])
def test_what_ends_the_polling_of_a_source_is_told_and_it_begins_again(error: BaseException) -> None:
    """A library may cancel the task that it runs in, or exit: the others go on, and so does this one."""
    got, stops = Collected(), list[tuple[str, str, float | None]]()

    def told(name: str, why: str, again_s: float | None) -> None:
        stops.append((name, why, again_s))

    dies = Scripted("dies", lambda n: raise_(error) if n in (2, 3) else None)
    poller = Poller([dies, Scripted("fine")], got, period_s=0.02, on_stop=told, rests_s=(0.01, 0.02))
    poller.start()
    try:
        got.wait(lambda _: len(got.of("dies")) >= 3 and len(got.of("fine")) >= 3)
    finally:
        assert poller.stop(60.0)
    why = f"{type(error).__name__}: {error}".removesuffix(": ")
    assert stops == [("dies", why, 0.01), ("dies", why, 0.02)]
    assert {sample.error for sample in got.samples} == {None}
    assert dies.closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_is_told_for_each_source(monkeypatch: pytest.MonkeyPatch) -> None:
    stops = list[tuple[str, str, float | None]]()

    async def fails(poller: Poller) -> None:
        raise RuntimeError("no loop")

    monkeypatch.setattr(Poller, "_poll_all", fails)
    poller = Poller(
        [Scripted("a"), Scripted("b")], Collected(), on_stop=lambda *stopped: stops.append(stopped)
    )
    poller.start()
    assert poller._thread is not None
    poller._thread.join(60.0)
    why = "the telemetry thread ended: RuntimeError: no loop"
    assert stops == [("a", why, None), ("b", why, None)]
    assert poller.stop()
