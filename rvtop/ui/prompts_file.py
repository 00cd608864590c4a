"""A prompt of a run's ``prompts.jsonl``, for one request that the user wants to see or send again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from rvtop.contract.run_files import ENVIRONMENT, PROMPTS
from rvtop.load.plan.api import KINDS, Api
from rvtop.text import printable

_LONGEST = 4 << 20


def prompt_row(out_dir: str | None, number: int) -> dict[str, Any]:
    """Row ``number`` of the run's prompts. Raises ValueError with one line when it can't be had."""
    if out_dir is None:
        raise ValueError(f"this session keeps no {PROMPTS}")
    path = Path(out_dir) / PROMPTS
    if any(path.parent.glob(f"{path.stem}-*{path.suffix}")):  # a request tells the row, not the file
        raise ValueError("prompts of several lengths were sent: which one this request had is not known")
    try:
        with path.open("rb") as file:
            line = next(itertools.islice(file, number, None), b"")
        row = json.loads(line) if len(line) <= _LONGEST else None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{path}: row {number} can't be read")
    return row


def api_of(out_dir: str | None) -> Api:
    """What the run in ``out_dir`` spoke with its target; the usual where it does not tell."""
    try:
        told = json.loads((Path(out_dir or "") / ENVIRONMENT).read_bytes())["flags"]["endpoint"]
        api = Api(told["name"], told["stream"], told["batch"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Api()
    return api if api.name in ("", *KINDS) and type(api.batch) is int else Api()


def prompt_text(row: dict[str, Any]) -> str:
    """What a row asks, safe to show on one line."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return printable(str(row.get("prompt", "")), 4000)
    texts = [f"{m.get('role')}: {m.get('content')}" for m in messages if isinstance(m, dict)]
    return printable("  ".join(texts), 4000)
