"""Models on this machine that a topology can serve: those of the experiment's layout, and the tiny one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Names of the experiment's models, and their folders below ``shared_dir()/models``.
EXPERIMENT_MODELS = {"q3b": "qwen25_3b", "q15b": "qwen25_1_5b_instruct"}
TINY = "tiny"
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class FoundModel:
    """``size`` in bytes of its weights; None where they are not there yet. ``by_default``: it is served when
    no model is named."""

    name: str
    source: str
    size: float | None
    by_default: bool


def shared_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where backends look for the experiment's models and index: ``$RVTOP_SHARED``, or ``/mnt/shared``."""
    return Path(environ.get("RVTOP_SHARED") or "/mnt/shared").expanduser()


def found_models(environ: Mapping[str, str] = os.environ) -> list[FoundModel]:
    """The models of the experiment that are there, and ``tiny``, which can always be built."""
    base = shared_dir(environ) / "models"
    folders = {name: base / folder for name, folder in EXPERIMENT_MODELS.items() if (base / folder).is_dir()}
    found = [FoundModel(name, str(path), _size(path), True) for name, path in folders.items()]
    return [*found, FoundModel(TINY, TINY, None, not found)]


def _size(folder: Path) -> float | None:
    try:
        files = [path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS]
    except OSError:
        return None
    return float(sum(files)) if files else None
