"""Turns texts into unit vectors with a SentenceTransformer, in micro-batches."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backends.models import Progress
from backends.models.load import ModelError, load_embedder, resolve_embedder
from backends.rag.errors import RagError

if TYPE_CHECKING:  # seconds, and not needed to refuse an index
    from sentence_transformers import SentenceTransformer

MICRO_BATCH = 32

Vectors = NDArray[np.float32]


class Embedder:
    """An embedding model. ``name`` is what it was asked for by, ``digest`` identifies its weights, and
    ``dimension`` is the length of its vectors. Threads may share it."""

    def __init__(self, name: str, digest: str, model: SentenceTransformer) -> None:
        self.name = name
        self.digest = digest
        self._model = model
        self._lock = threading.Lock()
        self.dimension = self.encode([""]).shape[1]

    @classmethod
    def load(cls, spec: str, device: str = "cpu", progress: Progress | None = None) -> Embedder:
        """``tiny``, a folder or a Hub id. Raises RagError."""
        try:
            source = resolve_embedder(spec, progress)
            model = load_embedder(source, device)
        except ModelError as error:
            raise RagError(str(error)) from error
        name = str(source.resolve()) if isinstance(source, Path) and spec != "tiny" else spec
        return cls(name, _digest(_folder(source)), model)

    def encode(self, texts: Sequence[str], on_done: Callable[[int], None] | None = None) -> Vectors:
        """Unit vectors, (len(texts), dimension) float32; ``on_done`` is called with how many are ready. A
        text without any token has a vector of zeros."""
        parts: list[Vectors] = []
        for start in range(0, len(texts), MICRO_BATCH):
            batch = list(texts[start : start + MICRO_BATCH])
            # Fast tokenizers refuse to be used by two threads at once.
            with self._lock:
                rows = self._model.encode(batch, convert_to_numpy=True, show_progress_bar=False)
            parts.append(unit(np.asarray(rows)))
            if on_done is not None:
                on_done(start + len(batch))
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)

    def count(self, texts: Sequence[str]) -> int:
        """How many tokens texts are to the embedder."""
        prepare = getattr(self._model, "preprocess", None) or self._model.tokenize  # its name before 6
        with self._lock:
            features = prepare(list(texts))
        mask = features.get("attention_mask")
        return int(features["input_ids"].numel() if mask is None else mask.sum())


def unit(rows: NDArray[np.floating]) -> Vectors:
    """Rows of length 1 in float32, so that their inner products are cosines; zeros stay zeros."""
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: Vectors = np.divide(wide, lengths, where=lengths > 0, out=np.zeros_like(wide)).astype(np.float32)
    return scaled


def _folder(source: Path | str) -> Path:
    """Where a loaded model's files are."""
    if isinstance(source, Path):
        return source
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, local_files_only=True))


def _digest(folder: Path) -> str:
    """SHA-256 over the weights: the same for a copy in another place or the Hub's own."""
    h = hashlib.sha256()
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        # A folder may hold the same weights in two formats; loading takes the first.
        files = sorted(place.glob("model*.safetensors")) or sorted(place.glob("pytorch_model*.bin"))
        for file in files:
            h.update(file.relative_to(folder).as_posix().encode() + b"\0")
            with file.open("rb") as opened:
                h.update(hashlib.file_digest(opened, "sha256").digest())
    return h.hexdigest()
