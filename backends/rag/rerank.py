"""Orders the passages that a search found by how well each answers the question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from backends.models.load import ModelError, resolve_embedder
from backends.models.progress_bars import no_progress_bars
from backends.rag.errors import RagError
from backends.settings.graph import WORDS

# BM25's (S. Robertson and H. Zaragoza, 2009): how soon a term's repetitions count no more, and how much a
# passage's length counts.
_K1, _B = 1.2, 0.75
_TOKEN = re.compile(r"\w+")
# Korean joins particles to words, so a text's terms are pieces of its words.
_PIECE = 2


class Reranker(Protocol):
    """``name`` is what it was asked for by."""

    name: str

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """A number for each passage: the higher, the better it answers."""
        ...


def open_reranker(spec: str, device: str = "cpu") -> Reranker:
    """``words``, or a cross-encoder's folder or Hub id. Raises RagError."""
    return Words() if spec == WORDS else CrossEncoder(spec, device)


def best(reranker: Reranker, question: str, passages: Sequence[str], top_k: int) -> list[int]:
    """Which ``top_k`` of the passages are best, best first; equals stay in their order."""
    found = reranker.scores(question, passages)
    return sorted(range(len(passages)), key=lambda number: -found[number])[:top_k]


class Words:
    """BM25 over the passages themselves: no model. Among some tens of passages the rare words of a question
    tell them apart where their vectors are alike."""

    name = WORDS

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """See :class:`Reranker`."""
        counted = [Counter(_terms(text)) for text in passages]
        lengths = [sum(counts.values()) for counts in counted]
        mean = sum(lengths) / len(lengths) if lengths else 0.0
        made = [0.0] * len(counted)
        for term in dict.fromkeys(_terms(question)):
            having = sum(term in counts for counts in counted)
            rarity = math.log(1 + (len(counted) - having + 0.5) / (having + 0.5))
            for number, counts in enumerate(counted):
                if often := counts[term]:
                    long = 1 - _B + _B * lengths[number] / mean
                    made[number] += rarity * often * (_K1 + 1) / (often + _K1 * long)
        return made


class CrossEncoder:
    """A model that reads question and passage together."""

    def __init__(self, spec: str, device: str = "cpu") -> None:
        """Raises RagError."""
        try:
            source = resolve_embedder(spec)
        except ModelError as error:
            raise RagError(f"--reranker: {error}") from error
        from sentence_transformers import CrossEncoder as Model

        self.name = str(source.resolve()) if isinstance(source, Path) else spec
        try:
            with no_progress_bars():
                self._model: Any = Model(str(source), device=device)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RagError(f"--reranker {spec}: cannot be loaded: {reason}") from error

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """See :class:`Reranker`."""
        if not passages:
            return []
        pairs = [(question, passage) for passage in passages]
        return [float(score) for score in self._model.predict(pairs, show_progress_bar=False)]


def _terms(text: str) -> list[str]:
    return [
        word[at : at + _PIECE]
        for word in _TOKEN.findall(text.lower())
        for at in range(max(1, len(word) - _PIECE + 1))
    ]
