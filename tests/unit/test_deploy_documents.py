"""The queries of the documents that the project began with: what they ask for is not there, or otherwise.
Their folder is not part of the repository; without it these are skipped."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.unit.prom_names import recorded

SOURCES = Path(os.environ.get("RVTOP_SOURCES", Path(__file__).parents[4] / "shared" / "sources"))
COUNT = 7


def queries() -> list[str]:
    """The PromQL of both documents, in order."""
    first = re.findall(r'"expr": "(.*)"', (SOURCES / "001.txt").read_text("utf-8"))
    panels = (SOURCES / "004.txt").read_text("utf-8").partition("panels:")[2].partition("A/B")[0]
    second = re.findall(r"query: \|(.*?)(?=- title|\Z)", panels, re.S)
    return [*first, *(" ".join(query.split()) for query in second)]


@pytest.mark.skipif(not SOURCES.is_dir(), reason=f"{COUNT} queries: the documents are not here")
def test_three_of_seven_ask_for_names_that_ray_2_60_does_not_have() -> None:
    asked = queries()
    assert len(asked) == COUNT
    pages = recorded()
    found = [next(name for name in re.findall(r"ray_serve_\w+|DCGM_\w+", query)) for query in asked]
    absent = [name for name in found if name not in pages]
    assert sorted(absent) == [
        *("ray_serve_deployment_replica_healthy_total", "ray_serve_deployment_request_counter"),
        "ray_serve_deployment_request_counter",
    ]
    assert "pod" not in pages["DCGM_FI_DEV_GPU_UTIL"]  # asked for by it
    quantiles = [query for query in asked if "histogram_quantile" in query]
    assert len(quantiles) == 2
    assert not any("by (le" in query for query in quantiles)  # so of each replica and route alone
