"""Answers of several topologies to the same questions: how far they agree, and what each answer is like.

Pure: answers in, rows out. An answer is told by its text alone; whether it is right is not judged.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

_WORDS = re.compile(r"\w+|[^\w\s]")
_SPACE = re.compile(r"\s+")
#: How Unicode's names of letters begin, and what is said of text made of them. A script is no language, but
#: it is what tells an answer that left the language of its question, and needs no model.
_SCRIPTS = {
    "HANGUL": "Hangul",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "CJK": "Han",
    "LATIN": "Latin",
    "CYRILLIC": "Cyrillic",
    "ARABIC": "Arabic",
    "DEVANAGARI": "Devanagari",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "THAI": "Thai",
}
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked. ``hit``: whether what was retrieved holds the answer, None where that is not known."""

    id: str
    text: str
    hit: bool | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``error``: why there is no answer, as a class of errors and in words; ``finish``: the
    server's reason to end it."""

    text: str = ""
    finish: str | None = None
    tokens: int | None = None  # the server's own count
    error: str = ""
    error_text: str = ""


@dataclass(frozen=True, slots=True)
class Answer(Reply):
    """A reply, and whose it is."""

    name: str = ""  # of the topology, as its row is called
    model: str = ""
    question: str = ""  # its id

    @property
    def empty(self) -> bool:
        """Whether nothing is to be read in it."""
        return not self.error and not self.text.strip()

    @property
    def cut_off(self) -> bool:
        """Whether it ended at its limit of tokens."""
        return self.finish == "length"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two answers agree. ``overlap``: twice the words in common over the words of both, 0 to 1;
    ``at_word``: the first word, from 0, that is not the same, None where all are."""

    identical: bool
    overlap: float
    at_word: int | None


def words(text: str) -> list[str]:
    """The words and signs of a text, without its spaces."""
    return _WORDS.findall(text)


def agreement(reference: str, other: str) -> Agreement:
    """How ``other`` agrees with ``reference``."""
    ours, theirs = words(reference), words(other)
    both = len(ours) + len(theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    overlap = 2 * common / both if both else 1.0
    if ours == theirs:
        return Agreement(reference == other, overlap, None)
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((number for number, (one, two) in pairs if one != two), min(len(ours), len(theirs)))
    return Agreement(False, overlap, at)


def script(text: str) -> str | None:
    """The script that most letters of a text are of; None where it has no letter."""
    found: Counter[str] = Counter()
    for letter in filter(str.isalpha, text):
        kind = unicodedata.name(letter, "").partition(" ")[0]
        found[_SCRIPTS.get(kind.partition("-")[0], OTHER)] += 1
    return found.most_common(1)[0][0] if found else None


def holds(context: str, expected: str) -> bool:
    """Whether ``expected`` stands in ``context``, however its lines are broken."""
    return _SPACE.sub(" ", expected).strip().casefold() in _SPACE.sub(" ", context).casefold()


def rows(questions: Sequence[Question], answers: Sequence[Answer], reference: str) -> list[dict[str, Any]]:
    """A row for each topology and model, in the order in which they answered."""
    asked = {question.id: question for question in questions}
    own: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        own.setdefault((answer.name, answer.model), []).append(answer)
    found = _by_question(answers, reference)
    return [_row(asked, of, found if name != reference else {}) for (name, _), of in own.items()]


def differing(answers: Sequence[Answer], reference: str) -> list[dict[str, Any]]:
    """The answers that are not those of ``reference``, those that have the least in common first."""
    found = _by_question(answers, reference)
    told = []
    for answer in answers:
        other = found.get((answer.model, answer.question))
        if answer.name == reference or answer.error or other is None:
            continue
        agrees = agreement(other.text, answer.text)
        if not agrees.identical:
            told.append(
                {
                    "name": answer.name,
                    "model": answer.model,
                    "id": answer.question,
                    "overlap": agrees.overlap,
                    "at_word": agrees.at_word,
                    "reference": other.text,
                    "answer": answer.text,
                }
            )
    return sorted(told, key=lambda one: one["overlap"])


def retrieval(questions: Sequence[Question]) -> dict[str, int]:
    """For how many questions it is known what was to be retrieved, and for how many of these it was."""
    known = [question.hit for question in questions if question.hit is not None]
    return {"known": len(known), "hit": sum(known)}


def _by_question(answers: Sequence[Answer], name: str) -> dict[tuple[str, str], Answer]:
    """The answers of one topology by model and question; those that failed are none."""
    return {(one.model, one.question): one for one in answers if one.name == name and not one.error}


def _row(
    asked: Mapping[str, Question], answers: Sequence[Answer], reference: Mapping[tuple[str, str], Answer]
) -> dict[str, Any]:
    """``reference``: empty for the reference itself."""
    good = [answer for answer in answers if not answer.error]
    scripts = Counter(script(answer.text) or "none" for answer in good)
    same = [(script(asked[one.question].text), script(one.text)) for one in good if not one.empty]
    pairs = [(reference[key], one) for one in good if (key := (one.model, one.question)) in reference]
    agrees = [agreement(first.text, second.text) for first, second in pairs]
    apart = [one.at_word for one in agrees if one.at_word is not None]
    lengths = [len(words(answer.text)) for answer in good]
    tokens = [answer.tokens for answer in good if answer.tokens is not None]
    return {
        "name": answers[0].name,
        "model": answers[0].model,
        "asked": len(answers),
        "answered": len(good),
        "errors": dict(Counter(answer.error for answer in answers if answer.error)),
        "empty": sum(answer.empty for answer in good),
        "cut_off": sum(answer.cut_off for answer in good),
        "scripts": dict(scripts),
        "script_of_question": sum(question == answer for question, answer in same),
        "script_known": len(same),
        "words_mean": _mean(lengths),
        "words_max": max(lengths, default=None),
        "tokens_mean": _mean(tokens),
        "compared": len(agrees),
        "identical": sum(one.identical for one in agrees),
        "overlap_mean": _mean([one.overlap for one in agrees]),
        "overlap_min": min((one.overlap for one in agrees), default=None),
        "first_divergence_median": median(apart) if apart else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
