"""PromQL of the figures in the one table (``contract.figures``) and in Ray's (``telemetry.metrics``).

An engine's figure is asked for by its name behind every prefix at once (a regular expression on the name), so
that vLLM's own page, ours and Ray's re-export serve one panel; series of one ``job`` are taken together, so a
page that tells of the same engines second hand (Ray's nodes, of ``rsv``) belongs into a job of its own. Older
names follow with ``or``: they count only where the newer ones are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rvtop.contract.figures import BY_KEY, Figure
from rvtop.telemetry.metrics import RAY_TABLE, RayMetric

#: The window of a rate in a panel: at least four scrapes, so that two are in it (Grafana fills it in).
WINDOW = "$__rate_interval"

_RAY: dict[tuple[str, str], RayMetric] = {(metric.of, metric.field): metric for metric in RAY_TABLE}


@dataclass(frozen=True, slots=True)
class Names:
    """Which names servers write. ``ray_before_2_53``: Ray's counters without ``_total``, and vLLM's figures
    on Ray's pages with a colon too (``ray_vllm:``)."""

    ray_before_2_53: bool = False

    @property
    def tells_wanted(self) -> bool:
        """Whether Serve tells how many replicas it wants: Ray 2.44 and 2.52 do not."""
        return not self.ray_before_2_53

    def series(self, key: str, part: str = "") -> list[str]:
        """The regular expressions of a figure's names, the preferred first. ``part``: of a histogram
        ``bucket``, ``sum`` or ``count``. Raises KeyError."""
        figure = BY_KEY[key]
        found = []
        for rank, suffix in enumerate(figure.suffixes):
            name = f"{suffix}_{part}" if part else suffix
            prefixes = ["vllm:", "ray_vllm_"] if rank else ["vllm:", "rvtop:", "ray_vllm_"]
            prefixes += ["ray_vllm:"] * self.ray_before_2_53
            if figure.kind == "counter" and self.ray_before_2_53:
                ends = ("" if prefix.startswith("ray") else "_total" for prefix in prefixes)
                found.append("|".join(f"{p}{name}{end}" for p, end in zip(prefixes, ends, strict=True)))
            else:
                end = "_total" if figure.kind == "counter" else ""
                found.append(f"({'|'.join(prefixes)}){name}{end}")
        return found

    def ray(self, of: str, field: str) -> str:
        """The name of one of Ray's figures. Raises KeyError."""
        metric = ray_metric(of, field)
        return f"{metric.series}_total" if metric.counter and not self.ray_before_2_53 else metric.series


def ray_metric(of: str, field: str) -> RayMetric:
    """An entry of ``RAY_TABLE``. Raises KeyError."""
    return _RAY[of, field]


def selector(name: str, *matchers: str) -> str:
    """``name{matchers}``; a name that is a regular expression is asked for by ``__name__``."""
    if any(sign in name for sign in "(|["):
        return "{" + ", ".join([f'__name__=~"{name}"', *matchers]) + "}"
    return f"{name}{{{', '.join(matchers)}}}" if matchers else name


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _skipped(figure: Figure) -> list[str]:
    return [f'{label}!~"{"|".join(sorted(values))}"' for label, values in figure.skip.items()]


def gauge(names: Names, key: str, by: Sequence[str], matchers: Iterable[str] = ()) -> str:
    """A gauge of engines, together as the figure's ``combine`` says."""
    figure = BY_KEY[key]
    sels = [selector(name, *matchers, *_skipped(figure)) for name in names.series(key)]
    return " or ".join(f"{figure.combine}{_by(by)} ({sel})" for sel in sels)


def rate(
    names: Names, key: str, by: Sequence[str], matchers: Iterable[str] = (), *, window: str = WINDOW,
    part: str = "",
) -> str:  # fmt: skip
    """What a counter (or a ``part`` of a histogram) grows by a second."""
    sels = [selector(name, *matchers, *_skipped(BY_KEY[key])) for name in names.series(key, part)]
    return " or ".join(f"sum{_by(by)} (rate({sel}[{window}]))" for sel in sels)


def quantile(
    names: Names, q: float, key: str, by: Sequence[str], matchers: Iterable[str] = (), *, window: str = WINDOW
) -> str:
    """A quantile of a histogram over the window, in the page's unit: the bucket is right, inside it
    Prometheus draws a straight line."""
    return " or ".join(
        f"histogram_quantile({q:g}, sum{_by(['le', *by])} (rate({selector(name, *matchers)}[{window}])))"
        for name in names.series(key, "bucket")
    )


def mean(
    names: Names, key: str, by: Sequence[str], matchers: Iterable[str] = (), *, window: str = WINDOW
) -> str:
    """The mean of a histogram over the window, in the page's unit."""
    sums, counts = (rate(names, key, by, matchers, window=window, part=part) for part in ("sum", "count"))
    return f"({sums}) / ({counts})"


def share(names: Names, key: str, by: Sequence[str], matchers: Iterable[str] = ()) -> str:
    """A figure that is a share of two others: of counters what they grew by in the window."""
    figure = BY_KEY[key]
    whole_by = [label for label in by if label != figure.label]
    one, whole = (
        (rate if BY_KEY[part].kind == "counter" else gauge)(names, part, labels, matchers)
        for part, labels in zip(figure.parts, (by, whole_by), strict=True)
    )
    if figure.label:
        return f"({one}) / on ({', '.join(whole_by)}) group_left () ({whole})"
    return f"1 - ({one}) / ({whole})" if figure.rest else f"({one}) / ({whole})"
