"""The exporter: `rvtop export RUN --format lines`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path


def lines(folder: Path) -> Iterator[str]:
    """The text of a run folder in this format, in pieces."""
    for line in (folder / "requests.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield f"{row['id']} {row['error'] or 'ok'}\n"
