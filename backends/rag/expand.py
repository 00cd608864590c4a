"""Questions to prompts: retrieval and prompt building done once, before any load starts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from backends.corpus.prompt import build_messages
from backends.rag.embed import MICRO_BATCH
from backends.rag.errors import RagError
from backends.rag.retriever import Retriever


def expand(
    questions: Sequence[tuple[str, str]],
    retriever: Retriever,
    top_k: int,
    out: Path,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Writes a line for each (id, question): ``{"id", "messages": [system, user], "sources": [chunk ids,
    best first]}``. The file appears whole or not at all. ``on_done`` gets how many are expanded. Raises
    RagError."""
    lines = []
    for start in range(0, len(questions), MICRO_BATCH):
        batch = questions[start : start + MICRO_BATCH]
        for (name, text), hits in zip(batch, retriever.search([q for _, q in batch], top_k), strict=True):
            messages = build_messages(text, [hit.text for hit in hits])
            row = {"id": name, "messages": messages, "sources": [hit.chunk_id for hit in hits]}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        if on_done is not None:
            on_done(start + len(batch))
    _write(out, "".join(lines))


def _write(path: Path, text: str) -> None:
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            try:
                file.write(text)
                file.close()
                os.chmod(file.name, 0o644)  # a temporary file is the owner's alone
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise RagError(f"{path}: cannot be written: {error.strerror or error}") from error
