"""Prompts of a wanted length, made up from a seed.

Without the server's tokenizer a length in tokens can only be aimed at: short common words are close
to one token each in the usual vocabularies. The server's own count stands in every record.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from rvtop.scenario.workload import SyntheticWorkload
from rvtop.workload.lengths import draw
from rvtop.workload.rows import user, user_row

_TEXT = """
time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend
father power hour game line end member law car city name team minute idea body back
"""
_WORDS = _TEXT.split()
_PHRASE = 16  # words
_PHRASES = 4096


def text(tokens: int, source: random.Random) -> str:
    """About ``tokens`` tokens of text."""
    return " ".join(source.choices(_WORDS, k=tokens))


class Phrases:
    """Text for prompts by the thousand million tokens: made of phrases drawn once, at a tenth of the time.

    A text begins with words drawn one by one, so that no two begin alike by chance and a prefix cache finds
    only what is meant to be shared.
    """

    def __init__(self, seed: int) -> None:
        source = random.Random(f"{seed}/phrases")
        self._phrases = [text(_PHRASE, source) for _ in range(_PHRASES)]

    def text(self, tokens: int, source: random.Random) -> str:
        """About ``tokens`` tokens of text."""
        phrases, words = divmod(max(tokens - _PHRASE, 0), _PHRASE)
        parts = source.choices(_WORDS, k=min(tokens, _PHRASE) + words)
        return " ".join(parts + source.choices(self._phrases, k=phrases))


def rows(workload: SyntheticWorkload, seed: int) -> Iterator[dict[str, Any]]:
    """The workload's prompts as rows of ``prompts.jsonl``; the same seed gives the same rows.

    Each property has random numbers of its own: asking for longer answers or a follow-up leaves the
    prompts as they were.
    """
    words = random.Random(seed)
    lengths, outputs, talk = (random.Random(f"{seed}/{name}") for name in ("prompt", "output", "turns"))
    prefixes = _prefixes(workload, seed)
    for i in range(workload.count):
        own = text(draw(workload.prompt_tokens, lengths), words)
        row = user_row(f"synthetic-{i}", own if prefixes is None else prefixes[i] + own)
        row |= _output(workload, outputs)
        turns = [_turn(workload, talk, outputs) for _ in range(draw(workload.turns, talk) - 1)]
        yield row | ({"turns": turns} if turns else {})


def _turn(workload: SyntheticWorkload, talk: random.Random, outputs: random.Random) -> dict[str, Any]:
    turn: dict[str, Any] = {"messages": [user(text(draw(workload.prompt_tokens, talk), talk))]}
    turn |= _output(workload, outputs)
    return turn | ({"delay_s": workload.think_s} if workload.think_s else {})


def _output(workload: SyntheticWorkload, source: random.Random) -> dict[str, int]:
    """A row's own output length; a fixed one stands once in the body of all requests."""
    if isinstance(workload.output_tokens, int):
        return {}
    return {"max_tokens": draw(workload.output_tokens, source)}


def _prefixes(workload: SyntheticWorkload, seed: int) -> list[str] | None:
    """What each row begins with: the wanted share exactly, each prefix equally often, in a random order."""
    if workload.prefix_tokens is None:
        return None
    source = random.Random(f"{seed}/prefix")
    texts = [text(workload.prefix_tokens, source) + " " for _ in range(workload.prefixes)]
    some = [texts[i % len(texts)] for i in range(workload.prefixed)]
    begins = some + [""] * (workload.count - len(some))
    source.shuffle(begins)
    return begins
