"""``summary.json`` of a batch, and whether its ways computed the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rvtop.batch.folder import tokens_of
from rvtop.batch.job import Job
from rvtop.contract.run_files import SUMMARY
from rvtop.system.files import unwritable, written_whole
from rvtop.text import told

#: Rows that differ of which the file tells where.
MOST_SHOWN = 100


def summarise(job: Job, end: str) -> dict[str, Any]:
    """What came of it. ``end``: ``done``, ``failed`` or ``interrupted``."""
    now = job.clock()
    return {
        "schema": 1,
        "batch": told(job.plan.file.name),
        "sha256": job.digest,
        "model": told(job.plan.name or job.plan.model),
        "ways": {lane.how: lane.summary(now) for lane in job.lanes},
        "same": same(job),
        "end": {"kind": end, "exit_code": job.exit_code},
    }


def same(job: Job) -> dict[str, Any] | None:
    """The ways' output tokens against those of the first, row by row; None where there is but one. ``at``:
    how many tokens are the same before the first that differs. Rows drawn at random may differ anyhow."""
    if len(job.lanes) < 2:
        return None
    found = {lane.how: tokens_of(job.path(lane.how)) for lane in job.lanes}
    first = job.lanes[0].how
    made: dict[str, Any] = {"reference": first}
    for how in list(found)[1:]:
        both = [id_ for id_ in found[first] if id_ in found[how]]
        apart = [id_ for id_ in both if found[first][id_] != found[how][id_]]
        made[how] = {
            "compared": len(both),
            "identical": len(both) - len(apart),
            "differing": [_differs(id_, found[first][id_], found[how][id_]) for id_ in apart[:MOST_SHOWN]],
        }
    return made


def _differs(id_: str, a: tuple[int, ...], b: tuple[int, ...]) -> dict[str, Any]:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return {"custom_id": told(id_), "at": at, "tokens": [a[at : at + 1], b[at : at + 1]]}


def write_summary(job: Job, found: Mapping[str, Any]) -> None:
    """Raises UserError."""
    path = job.plan.out / SUMMARY
    try:
        with written_whole(path) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


def same_lines(found: Mapping[str, Any] | None) -> list[str]:
    """The comparison in words."""
    if found is None:
        return []
    lines = []
    for how, row in found.items():
        if not isinstance(row, dict) or not row["compared"]:
            continue
        line = f"{how}: {row['identical']} of {row['compared']} rows as {found['reference']}"
        if row["differing"]:
            first = row["differing"][0]
            line += f"; {first['custom_id']} differs after {first['at']} tokens"
        lines.append(line)
    return lines
