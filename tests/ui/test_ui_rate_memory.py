"""What the screen remembers of rates: means with their noise, and how the SLO fared at each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvtop.contract.snapshot import Latency, Load, Phase, Snapshot, Target
from rvtop.stats.distribution import Distribution
from rvtop.stats.histogram import Histogram
from rvtop.ui.rate_memory import Fared, RateMemory, RateScale, RecentRates


class Run:
    """A session under a hand-driven rate: every answer comes at once, after ``ttft_ms``."""

    def __init__(self, slo_ms: float | None = 200.0) -> None:
        self.t, self.due, self.ok, self.errors = 0.0, 0.0, 0.0, 0.0
        self.slo_ms = slo_ms
        self.target = Target("http://a:1", "rvc", ("m",))
        self.phase = Phase("live", 0, 1, 0.0, None)
        self.seen = Histogram()

    def at(
        self, rate: float | None, seconds: float, ttft_ms: float = 50.0, fails: float = 0.0
    ) -> Iterator[Snapshot]:
        for _ in range(round(seconds * 10)):
            self.t += 0.1
            before = int(self.ok)
            self.due += (rate or 0.0) / 10
            self.ok += (rate or 0.0) / 10 * (1 - fails)
            self.errors += (rate or 0.0) / 10 * fails
            self.seen.merge(Histogram.of([int(ttft_ms * 1e6)] * (int(self.ok) - before)))
            yield Snapshot(
                seq=round(self.t * 10),
                t_s=self.t,
                unix_s=self.t,
                state="running",
                name="live",
                target=self.target,
                phase=self.phase,
                load=Load(
                    target_rps=rate,
                    due=int(self.due),
                    ok=int(self.ok),
                    errors=(("http_500", int(self.errors)),) if self.errors else (),
                ),
                latency=Latency(ttft_phase=self.seen.distribution()),
                slo_ttft_ms=self.slo_ms,
            )


def fed(memory: RateMemory, *parts: Iterator[Snapshot]) -> RateMemory:
    for part in parts:
        for s in part:
            memory.observe(s)
    return memory


def remembered(memory: RateMemory) -> dict[float, Fared]:
    return {rate: fared for rate, fared, _ in memory.seen()}


# -- means -----------------------------------------------------------------------------------------


def test_a_steady_rate_has_its_mean_over_ten_seconds_with_the_noise_of_arrivals() -> None:
    run, rates = Run(), RecentRates()
    for s in run.at(40.0, 30):
        rates.observe(s)
    means = rates.means
    assert means is not None
    assert means.span_s == pytest.approx(10.0, abs=0.11)
    assert means.due == pytest.approx(40.0, abs=0.2)
    assert means.served == pytest.approx(40.0, abs=0.2)
    assert means.noise == pytest.approx(math.sqrt(400) / 10, abs=0.05)


def test_after_a_command_no_mean_holds_what_was_before_it() -> None:
    run, rates = Run(), RecentRates()
    for s in run.at(10.0, 20):
        rates.observe(s)
    for i, s in enumerate(run.at(10.4, 5), 1):  # so small a change, and yet a command
        rates.observe(s)
        means = rates.means
        assert means is not None
        assert means.span_s == pytest.approx(max(1.0, i / 10), abs=0.11)
    for s in run.at(80.0, 3):
        rates.observe(s)
    assert rates.means is not None
    assert rates.means.due == pytest.approx(80.0, abs=1.0)


def test_a_ramp_is_not_averaged_over() -> None:
    run, rates = Run(), RecentRates()
    for i in range(600):
        for s in run.at(4 + i * 0.08, 0.1):
            rates.observe(s)
        if i > 200:
            assert rates.means is not None
            assert rates.means.due == pytest.approx(4 + i * 0.08, rel=0.1)
            assert 1.0 <= rates.means.span_s <= 4.0


def test_there_is_no_mean_before_a_second_or_without_arrivals() -> None:
    run, rates = Run(), RecentRates()
    for s in run.at(10.0, 0.9):
        rates.observe(s)
        assert rates.means is None
    idle = RecentRates()
    for s in Run().at(0.0, 5):
        idle.observe(s)
    assert idle.means is None
    for s in run.at(10.0, 3):
        rates.observe(s)
    assert rates.means is not None
    for s in Run().at(10.0, 0.5):  # another session
        rates.observe(s)
    assert rates.means is None


# -- memory ----------------------------------------------------------------------------------------


def test_a_rate_that_stood_ten_seconds_or_a_hundred_requests_is_remembered() -> None:
    run = Run()
    memory = fed(RateMemory(), run.at(4.0, 9.5))
    assert remembered(memory) == {}, "neither ten seconds nor a hundred requests"
    fed(memory, run.at(4.0, 1))
    assert remembered(memory) == {4.0: Fared.HELD}
    fed(memory, run.at(100.0, 1.2, ttft_ms=900.0))
    assert remembered(memory) == {4.0: Fared.HELD, 100.0: Fared.MISSED}
    assert memory.highest == 100.0
    fed(memory, run.at(100.0, 3))
    assert remembered(memory)[100.0] is Fared.HELD, "the last time counts"


def test_errors_miss_the_slo_and_one_of_a_hundred_may() -> None:
    run = Run()
    assert remembered(fed(RateMemory(), run.at(50.0, 11, fails=0.5))) == {50.0: Fared.MISSED}
    assert remembered(fed(RateMemory(), Run().at(50.0, 11, fails=0.005))) == {50.0: Fared.HELD}
    # Nothing comes back at all: that is no success.
    assert remembered(fed(RateMemory(), Run().at(50.0, 30, fails=1.0))) == {50.0: Fared.MISSED}


def test_without_an_slo_or_while_nothing_is_sent_nothing_is_remembered() -> None:
    assert remembered(fed(RateMemory(), Run(slo_ms=None).at(50.0, 30))) == {}
    memory = RateMemory()
    for s in Run().at(50.0, 30):
        memory.observe(replace(s, state="paused", load=replace(s.load, target_rps=0.0)))
    assert remembered(memory) == {}
    assert fed(RateMemory(), Run().at(None, 30)).highest == 0.0


def test_a_phase_begins_the_stand_anew() -> None:
    run = Run()
    memory = fed(RateMemory(), run.at(5.0, 8))
    run.phase, run.seen = replace(run.phase, index=1, name="hold"), Histogram()
    fed(memory, run.at(5.0, 8))
    assert remembered(memory) == {}
    fed(memory, run.at(5.0, 3))
    assert remembered(memory) == {5.0: Fared.HELD}


def test_what_another_target_left_stands_until_it_is_overwritten() -> None:
    run, memory = Run(), RateMemory()
    fed(memory, run.at(10.0, 12), run.at(50.0, 12, ttft_ms=900.0))
    run.target = Target("http://b:1", "rac", ("m",))
    fed(memory, run.at(10.0, 12, ttft_ms=900.0))
    scale = RateScale(40, memory.highest, None)
    columns = scale.columns(memory)
    assert columns[scale.column(10.0)] == (Fared.MISSED, True)
    assert columns[scale.column(50.0)] == (Fared.MISSED, False)
    assert columns[scale.column(2.0)] == (Fared.UNTRIED, True)


def test_a_column_of_rates_that_held_and_missed_says_both() -> None:
    run = Run()
    memory = fed(RateMemory(), run.at(100.0, 3), run.at(104.0, 3, ttft_ms=900.0))
    scale = RateScale(10, memory.highest, None)
    assert scale.columns(memory)[scale.column(102.0)] == (Fared.BOTH, True)


def test_a_distribution_that_goes_back_begins_anew() -> None:
    run, memory = Run(), RateMemory()
    shots = list(run.at(50.0, 30))
    for i, s in enumerate(shots):
        gone = replace(s, latency=Latency(ttft_phase=Distribution())) if i % 7 == 0 else s
        memory.observe(gone)
    assert set(remembered(memory)) <= {50.0}


# -- the scale -------------------------------------------------------------------------------------


def test_the_scale_ends_at_the_maximum_or_at_four_times_what_was_tried() -> None:
    assert RateScale(40, 0.0, None).top == 10.0
    assert RateScale(40, 48.0, None).top == 200.0
    assert RateScale(40, 48.0, 64.0).top == 64.0
    assert RateScale(48, 48.0, None).labels()[0] == (0, "1")
    assert [text for _, text in RateScale(48, 48.0, None).labels()] == [
        "1",
        "2",
        "5",
        "10",
        "20",
        "50",
        "100",
        "200",
    ]


@given(
    width=st.integers(1, 200),
    highest=st.floats(0, 1e6),
    most=st.none() | st.floats(0.1, 1e6),
    rate=st.floats(0, 1e7),
)
def test_every_rate_has_a_column_and_labels_never_touch(
    width: int, highest: float, most: float | None, rate: float
) -> None:
    scale = RateScale(width, highest, most)
    assert 0 <= scale.column(rate) < width
    for x in range(width):
        assert scale.column(scale.rate(x)) == x
    end = -1
    for x, text in scale.labels():
        assert x > end
        end = x + len(text)
    assert end <= width
