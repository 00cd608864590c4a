"""The probes of a run: what its load did to others, apart from all figures of the load itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rvtop.contract import run_files
from rvtop.results.part import Part, RunFacts
from rvtop.results.table import TableError, read
from rvtop.results.windows import Window

#: The flag of ``environment.json``.
FLAG = "probe_rate"


def probes(
    folder: Path, windows: Sequence[Window], flags: Mapping[str, Any], notes: list[str]
) -> dict[str, Any] | None:
    """``probes`` of a summary: of all of them, and of those that were meant to be sent while each phase had
    arrivals. None where there were none. What can't be read is noted in ``notes``."""
    path = folder / run_files.PROBES
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        table = read(path, notes)
    except TableError as error:
        notes.append(str(error))
        return None
    facts = RunFacts(table, (), (), "1")

    def figures(begin_s: float, end_s: float) -> dict[str, Any]:
        mask = (table.intended >= begin_s * 1e9) & (table.intended < end_s * 1e9)
        part = Part(facts, mask, ((begin_s, end_s),), {})
        return {
            "sent": part.sent_count,
            "ok": part.ok_count,
            "errors": part.errors,
            "ttft_ms": part.ttft_dist,
            "schedule_lag_ms": part.lag_dist,
        }

    return {
        "rate_rps": flags.get(FLAG),
        **figures(-np.inf, np.inf),
        "phases": [{"name": window.name, **figures(window.start_s, window.end_s)} for window in windows],
    }
