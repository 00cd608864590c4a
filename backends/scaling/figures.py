"""The figures of ``--autoscale-on``, read off the engines' page and the nodes' pages."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

# Seconds that a percentile covers.
WINDOW_S = 10.0

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_KV = ("kv_cache_usage_perc", "gpu_cache_usage_perc")
_TTFT = "time_to_first_token_seconds_bucket"
_GPU = "ray_node_gpus_utilization"

Buckets = Mapping[float, float]  # upper edge in seconds -> cumulative count


class Figures:
    """The figures of one model. A percentile needs two pages."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._buckets: deque[tuple[float, Buckets]] = deque()

    def read(self, now_s: float, page: str, node_pages: Sequence[str], replicas: int) -> dict[str, float]:
        """Those that the pages have; ``replicas`` answer."""
        found: dict[str, float] = {}
        kv: list[float] = []
        waiting: float | None = None
        buckets: dict[float, float] = {}
        for name, labels, value in samples(page):
            if labels.get("model_name") != self._model:
                continue
            _, _, suffix = name.partition(":")
            if suffix in _KV:
                kv.append(value)
            elif suffix == "num_requests_waiting":
                waiting = (waiting or 0.0) + value
            elif suffix == _TTFT:
                edge = float(labels.get("le", "nan"))
                buckets[edge] = buckets.get(edge, 0.0) + value
        if kv:
            found["kv_usage"] = sum(kv) / len(kv)
        if waiting is not None and replicas:
            found["waiting"] = waiting / replicas
        p99 = self._ttft_p99(now_s, buckets)
        if p99 is not None:
            found["ttft_p99"] = p99
        busy = [value for nodes in node_pages for name, _, value in samples(nodes) if name == _GPU]
        if busy:
            found["gpu_util"] = sum(busy) / len(busy) / 100
        return found

    def _ttft_p99(self, now_s: float, buckets: Buckets) -> float | None:
        """In ms; None where no first token came in the window."""
        self._buckets.append((now_s, buckets))
        while len(self._buckets) > 1 and self._buckets[1][0] <= now_s - WINDOW_S:
            self._buckets.popleft()
        before = self._buckets[0][1]
        if any(buckets.get(edge, 0.0) < count for edge, count in before.items()):  # an engine went away
            self._buckets = deque([(now_s, buckets)])
            return None
        seconds = percentile({edge: count - before.get(edge, 0.0) for edge, count in buckets.items()}, 0.99)
        return None if seconds is None else 1000 * seconds


def percentile(growth: Buckets, share: float) -> float | None:
    """Of cumulative counts, linear within a bucket, as Prometheus' `histogram_quantile`; of the last bucket
    its lower edge. None without a count."""
    edges = sorted(edge for edge in growth if not math.isnan(edge))
    if not edges or growth[edges[-1]] <= 0:
        return None
    rank, low, below = share * growth[edges[-1]], 0.0, 0.0
    for edge in edges:
        count = growth[edge]
        if count >= rank:
            if edge == math.inf or count == below:
                return low
            return low + (edge - low) * (rank - below) / (count - below)
        low, below = edge, count
    return low


def samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """(name, labels, value) of each line of a page that is one."""
    for line in page.splitlines():
        match = _SAMPLE.match(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if not math.isnan(value):
            yield match[1], dict(_LABEL.findall(match[2] or "")), value
