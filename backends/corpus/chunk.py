"""Cuts text into overlapping chunks, counted in characters. Pure, stdlib only.

The defaults (150 characters, 50 shared with the chunk before) are the experiment's. Like the splitter
it used, a cut prefers the end of a paragraph, then of a line, a sentence, a word, and only then falls
inside a word; unlike it, chunks are spans of the text, so that nothing is lost between two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SIZE = 150
OVERLAP = 50

# Each matches the separator that a chunk may end with; best first.
_ENDS = tuple(re.compile(p) for p in (r"\n\s*\n", r"\n", r"[.!?。？！]['\")\]]*\s", r"\s"))


@dataclass(frozen=True, slots=True)
class Document:
    """A text with the name its chunks are called by."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """``text`` is ``document.text[start:end]`` without its outer white space."""

    doc: str
    number: int
    start: int
    end: int
    text: str

    @property
    def id(self) -> str:
        return f"{self.doc}#{self.number}"


def check(size: int, overlap: int) -> None:
    """Raises ValueError unless 0 <= overlap < size."""
    if size < 1:
        raise ValueError(f"chunk size must be at least 1 character, not {size}")
    if not 0 <= overlap < size:
        raise ValueError(f"chunk overlap must be from 0 to {size - 1} characters, not {overlap}")


def spans(text: str, size: int = SIZE, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """(start, end) offsets of the chunks of ``text``, in order.

    Every span has 1..``size`` characters, the first starts at 0, the last ends at ``len(text)``, each
    starts at or before its predecessor's end and shares at most ``overlap`` characters with it:
    exactly ``overlap`` where the text has no word to start at. Raises ValueError as `check` does.
    """
    check(size, overlap)
    out: list[tuple[int, int]] = []
    start = 0
    while len(text) - start > size:
        end = _cut(text, start + max(overlap, size // 2) + 1, start + size)
        out.append((start, end))
        start = _word_start(text, end - overlap, end)
    if start < len(text):
        out.append((start, len(text)))
    return out


def chunks(documents: Iterable[Document], size: int = SIZE, overlap: int = OVERLAP) -> list[Chunk]:
    """The chunks of all documents, numbered from 0 in each; white space alone makes no chunk."""
    out: list[Chunk] = []
    for doc in documents:
        kept = [(a, b, t) for a, b in spans(doc.text, size, overlap) if (t := doc.text[a:b].strip())]
        out += [Chunk(doc.name, n, a, b, t) for n, (a, b, t) in enumerate(kept)]
    return out


def _cut(text: str, low: int, high: int) -> int:
    """The best place to end a chunk, in low..high: after the last separator of the best kind."""
    for end in _ENDS:
        found = [m.end() for m in end.finditer(text, max(0, low - 2), high) if m.end() >= low]
        if found:
            return found[-1]
    return high


def _word_start(text: str, low: int, high: int) -> int:
    """The first start of a word in low..high-1, or ``low`` when there is none."""
    for at in range(low, high):
        if not text[at].isspace() and (at == 0 or text[at - 1].isspace()):
            return at
    return low
