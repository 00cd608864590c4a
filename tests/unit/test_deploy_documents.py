"""The queries of the documents that the project began with: what they ask for is not there, or is told otherwise.
Their folder is not part of the repository; without it these are skipped."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.unit.prom_names import recorded

SOURCES = Path(os.environ.get("RVTOP_SOURCES", Path(__file__).parents[4] / "shared" / "sources"))
#: Of each document how its queries begin.
QUERIES = {
    "001.txt": re.compile(r'"expr": "(.*)"'),
    "004.txt": re.compile(r"query: \|\n+([^-]*?)\n\n?-", re.S),
}
COUNT = 7


def queries() -> list[str]:
    text = {name: (SOURCES / name).read_text("utf-8") for name in QUERIES}
    first = QUERIES["001.txt"].findall(text["001.txt"])
    part = text["004.txt"].partition("panels:")[2].partition("A/B")[0]
    second = [" ".join(one.split()) for one in re.findall(r"query: \|(.*?)(?=- title|\Z)", part, re.S)]
    return [*first, *second]


@pytest.mark.skipif(not SOURCES.is_dir(), reason=f"{COUNT} queries: the documents are not here")
def test_all_seven_are_read_and_five_ask_for_what_ray_2_60_does_not_tell() -> None:
    asked = queries()
    assert len(asked) == COUNT
    pages = recorded()
    names = [re.search(r"[A-Za-z_]\w*(?:ray_serve|DCGM)?\w*(?=[\[\)\s]|$)", query) for query in asked]
    assert all(names)
    found = [next(name for name in re.findall(r"ray_serve_\w+|DCGM_\w+", query)) for query in asked]
    absent = [name for name in found if name not in pages]
    assert sorted(absent) == [
        *("ray_serve_deployment_replica_healthy_total", "ray_serve_deployment_request_counter"),
        "ray_serve_deployment_request_counter",
    ]
    assert "pod" not in pages["DCGM_FI_DEV_GPU_UTIL"]  # asked for by it
    assert sum("sum by (le" in query or "by (le" in query for query in asked) == 0
