"""`rvtop run …` as a process of its own, to its good end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def whole_run(out: Path, *words: str, limit_s: float = 1200) -> tuple[dict[str, Any], str]:
    """The summary of a run into the folder ``out``, and what it said."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "rvtop.cli", "run", *words, "--out", str(out)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
    )
    assert ended.returncode == 0, ended.stdout[-8000:]
    return json.loads((out / "summary.json").read_text()), ended.stdout
