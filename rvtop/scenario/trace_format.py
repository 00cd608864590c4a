"""Which format a trace file has, by its name and first line: Mooncake, BurstGPT or Azure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rvtop.errors import UserError

COLUMNS = {
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
}


def detect(path: Path, wanted: str | None) -> str:
    """``mooncake``, ``burstgpt`` or ``azure``, by name and header. Raises UserError when it is none of
    them or not the ``wanted`` one."""
    if path.suffix == ".jsonl":
        if wanted not in (None, "mooncake"):
            raise UserError(f"{path}: a {wanted} trace is a .csv file")
        return "mooncake"
    if wanted == "mooncake":
        raise UserError(f"{path}: a mooncake trace is a .jsonl file")
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


def column_names(header: Sequence[str]) -> list[str]:
    """The columns that a first line names, without the spaces around them."""
    return [name.strip() for name in header]
