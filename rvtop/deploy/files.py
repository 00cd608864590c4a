"""The files of one ``rvtop deploy`` command, below ``--out``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rvtop.errors import UserError
from rvtop.system.files import check_regular, unwritable, written_whole
from rvtop.text import printable


def write_all(out: Path, files: Mapping[str, str], *, force: bool = False) -> list[Path]:
    """Writes ``{path below out: text}``, each file whole or not at all; returns their paths.

    Nothing is written where a file is there with another text (somebody may have changed it), unless
    ``force``. Raises UserError, one line with the mend.
    """
    paths = {out / name: text for name, text in files.items()}
    try:
        if not force:
            for path, text in paths.items():
                _check_ours(path, text)
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from None
    return list(paths)


def _check_ours(path: Path, text: str) -> None:
    """Raises UserError where a file with another text is at ``path``."""
    if not path.exists():
        return
    check_regular(path)
    if path.read_bytes() != text.encode():
        raise UserError(
            f"--out: {printable(str(path))} is there with another text; give another folder, or --force to "
            "write it anew"
        )
