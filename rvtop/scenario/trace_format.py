"""Which format a trace file has, by its name and first line."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvtop.errors import UserError

COLUMNS = {
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
}
#: What of a line of ``.jsonl`` tells its format, the first one that fits; else it is Mooncake's.
_KEYS = (
    ("otel", ("resourceSpans", "scopeSpans", "traceId")),
    ("bailian", ("chat_id",)),
    ("aiperf", ("session_id", "turns", "text", "texts", "text_input", "messages", "delay")),
)
#: Formats of sessions; all others are of single requests.
SESSIONS = ("aiperf", "otel")
_LONGEST = 16 << 20


def detect(path: Path, wanted: str | None) -> str:
    """The format's name, as ``workload.format`` has it. Raises UserError when it is none of them or not the
    ``wanted`` one."""
    if path.suffix == ".json":
        if wanted not in (None, "otel"):
            raise UserError(f"{path}: a {wanted} trace is a {'.csv' if wanted in COLUMNS else '.jsonl'} file")
        return "otel"
    if path.suffix == ".jsonl":
        if wanted in COLUMNS:
            raise UserError(f"{path}: a {wanted} trace is a .csv file")
        return wanted or _of_line(path)
    if wanted is not None and wanted not in COLUMNS:
        raise UserError(f"{path}: a {wanted} trace is a .jsonl file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    for name, columns in COLUMNS.items():
        if wanted in (None, name) and all(column in column_names(header) for column in columns):
            return name
    if wanted is not None:
        absent = [column for column in COLUMNS[wanted] if column not in column_names(header)]
        raise UserError(f"{path}:1: a trace of format {wanted} has {absent[0]!r} in its first line")
    known = " or ".join(f"{name} ({', '.join(columns)})" for name, columns in COLUMNS.items())
    raise UserError(f"{path}:1: its first line names the columns of no known trace: {known}")


def _of_line(path: Path) -> str:
    """The format of a ``.jsonl`` file; what can't be read is told by whoever reads it."""
    row: Any = None
    try:
        with path.open("rb") as file:
            lines = (file.readline(_LONGEST).removeprefix(b"\xef\xbb\xbf").strip() for _ in range(16))
            row = json.loads(next(filter(None, lines), b"null"))
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    except (ValueError, RecursionError):
        pass
    keys = row.keys() if isinstance(row, dict) else ()
    return next((name for name, some in _KEYS if any(key in keys for key in some)), "mooncake")


def column_names(header: Sequence[str]) -> list[str]:
    """The columns that a first line names, without the spaces around them."""
    return [name.strip() for name in header]
