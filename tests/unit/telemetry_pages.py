"""Metrics pages for tests, and the clock for reading them: ``python -m tests.unit.telemetry_pages``."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from rvtop.telemetry.metrics import NAMES
from rvtop.telemetry.prometheus import PageReader

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "metrics"


def golden(name: str) -> str:
    """The text of a golden page."""
    return (GOLDEN / name).read_text(encoding="utf-8")


def many_engines(page: str, engines: int) -> str:
    """A page of one engine as it would be for ``engines`` of them: each labelled line once per engine."""
    lines = []
    for line in page.splitlines():
        if line.startswith("#") or 'engine="0"' not in line:
            lines.append(line)
        else:
            lines += [line.replace('engine="0"', f'engine="{n}"') for n in range(engines)]
    return "\n".join(lines) + "\n"


def filtered(page: str) -> str:
    """Only the comments and lines of a page that the reader wants, for prometheus_client's parser."""
    return "\n".join(line for line in page.splitlines() if line.partition("{")[0] in NAMES) + "\n"


def _timed(label: str, work: object, repeat: int = 5) -> None:
    best = min(_once(work) for _ in range(repeat))
    print(f"{label:<58} {1000 * best:8.1f} ms")


def _once(work: object) -> float:
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


def main() -> None:
    """Times a page of 64 engines."""
    page = many_engines(golden("vllm_0.29_after.prom"), 64)
    print(f"a page of 64 vLLM 0.29 engines: {page.count(chr(10))} lines, {len(page) / 1e6:.1f} MB")
    reader = PageReader()
    _timed("ours, first page of a source", lambda: PageReader().read(page))
    reader.read(page)
    _timed("ours, every later page", lambda: reader.read(page))
    _timed("prometheus_client, all lines", lambda: list(text_string_to_metric_families(page)), 1)
    _timed(
        "prometheus_client, after filtering by name",
        lambda: list(text_string_to_metric_families(filtered(page))),
        1,
    )


if __name__ == "__main__":
    main()
