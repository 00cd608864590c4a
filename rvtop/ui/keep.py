"""What is kept of the screen: pictures in the run's folder, and what was copied."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rvtop.settings.paths import cache_folder


def save_picture(svg: str, out_dir: str | None) -> Path:
    """Writes ``svg`` to ``pictures/`` of the run folder, else to the working folder. Raises OSError."""
    folder = Path(out_dir) / "pictures" if out_dir else Path.cwd()
    if out_dir:
        folder.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("rvtop-%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        path = folder / (f"{stem}.svg" if number == 1 else f"{stem}-{number}.svg")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(svg)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(17, "too many pictures of this second", str(folder))


def copied_text(text: str) -> Path:
    """Writes ``text`` to ``copied.txt`` in the cache, for terminals without a clipboard. Raises OSError."""
    path = cache_folder(os.environ) / "copied.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", "utf-8")
    return path
