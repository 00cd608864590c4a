"""What the written files name of other projects, one place each: versions that were checked together."""

from __future__ import annotations

import rvtop

#: Ray in our images: the one that ``rvtop[ray]`` pins (a test compares them).
RAY = "2.60.0"
#: Images of others, by tag. A cluster that wants digests sets them in its own overlay.
REDIS = "redis:7.4.5-alpine3.21"
PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:12.1.1"


def ours(kind: str) -> str:
    """The image that ``rvtop deploy compose`` builds: ``kind`` is ``cpu`` or ``gpu``. A version between two
    releases has a "+", which no tag of an image may."""
    return f"rvtop:{rvtop.__version__.replace('+', '-')}-{kind}"
