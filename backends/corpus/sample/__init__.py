"""The sample corpus: an invented campus's handbooks in Korean and English, and 24 questions on them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from backends.corpus.chunk import Chunk, Document

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Question:
    """``answer`` is a piece of the text of document ``doc`` that some retrieved chunk must hold."""

    id: str
    text: str
    doc: str
    answer: str

    def answered_by(self, chunk: Chunk) -> bool:
        """Whether a chunk holds the answer (line breaks count as spaces)."""
        return chunk.doc == self.doc and self.answer in " ".join(chunk.text.split())


def documents() -> list[Document]:
    """The handbooks: ``handbook.en`` and ``handbook.ko``."""
    return [Document(p.stem, p.read_text(encoding="utf-8")) for p in sorted(_FOLDER.glob("*.md"))]


def questions() -> list[Question]:
    """24 questions, Korean and English in turn."""
    lines = (_FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [Question(r["id"], r["question"], r["doc"], r["answer"]) for r in rows]


def digest() -> str:
    """SHA-256 over the corpus and the questions."""
    h = hashlib.sha256()
    for path in sorted(_FOLDER.glob("*.*")):
        if path.suffix in (".md", ".jsonl"):
            h.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()
