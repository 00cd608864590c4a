"""Writes ``prompts.jsonl``: a row at a time, with its digest, whole or not at all.

What a row is, ``rvtop.load.plan.prompt_row`` says; ``rvtop.load.plan.prompts`` reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.system.files import written_whole


class WorkloadError(UserError):
    """The workload can't be prepared."""


class Stopped(Exception):
    """The user stopped the session while its prompts were made."""


def user_row(name: str, text: str) -> dict[str, Any]:
    """A row that asks one question."""
    return {"id": name, "messages": [user(text)]}


def user(text: str) -> dict[str, str]:
    """A user's message."""
    return {"role": "user", "content": text}


def encode(row: Mapping[str, Any]) -> bytes:
    """One line of the file; half a surrogate pair, which UTF-8 can't hold, becomes ``?``."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def save(path: Path, lines: Iterable[bytes], source: str, on_progress: Callable[[int], None]) -> str:
    """Writes ``lines`` (each ends with a newline) and returns their sha256.

    ``on_progress`` is called with the number of lines so far; what it or ``lines`` raises leaves no file.
    Raises WorkloadError when there is no line (``source`` is what holds none) or the file can't be written.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with written_whole(path) as part:
            with part.open("wb") as file:
                for done, line in enumerate(lines, 1):
                    file.write(line)
                    digest.update(line)
                    on_progress(done)
            if not done:
                raise WorkloadError(f"{source}: holds no prompt")
    except OSError as error:
        raise WorkloadError(f"{path}: can't be written: {error.strerror}") from error
    return digest.hexdigest()
