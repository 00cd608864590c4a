"""A deployment of Ray Serve over time: from its counters to what the screen shows."""

from __future__ import annotations

from rvtop.contract.snapshot import ServeDeployment
from rvtop.telemetry.counters import Ratio
from rvtop.telemetry.sample import DeploymentSample


class DeploymentState:
    """``t_ns`` is the time of its newest sample."""

    def __init__(self, first: DeploymentSample, t_ns: int) -> None:
        self.t_ns = t_ns
        self._sample = first
        self._latencies, self._batch_sizes, self._batch_waits = Ratio(), Ratio(), Ratio()

    def update(self, now: DeploymentSample, t_ns: int) -> None:
        """Takes a newer sample."""
        before, self._sample, self.t_ns = self._sample, now, t_ns
        for ratio, over, under in (
            (self._latencies, "latency_sum_ms", "latency_count"),
            (self._batch_sizes, "requests", "batches"),
            (self._batch_waits, "batch_wait_sum_ms", "batch_wait_count"),
        ):
            then, later = ((getattr(one, over), getattr(one, under)) for one in (before, now))
            ratio.add(t_ns, then, later)

    def line(self, now_ns: int) -> ServeDeployment:
        """As it stands at ``now_ns``."""
        held = self._sample
        return ServeDeployment(
            name=held.name,
            replicas=held.replicas,
            target_replicas=held.target_replicas,
            ongoing=held.ongoing,
            queued=held.queued,
            latency_ms=self._latencies.value(now_ns),
            starts=held.starts,
            batch_size=self._batch_sizes.value(now_ns),
            batch_wait_ms=self._batch_waits.value(now_ns),
        )
