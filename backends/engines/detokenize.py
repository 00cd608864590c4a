"""From token ids to text, one token at a time: characters are never cut, stop strings never leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
# Tokens of the prompt that give the first generated token its context: some tokenizers drop the space of the
# first token they decode.
CONTEXT = 4


class Detokenizer:
    """Text of a growing list of token ids.

    Decoding a token by itself is wrong (a character can span tokens, and some decoders treat the first
    token differently), and decoding everything each time is quadratic. So a short window is decoded: the
    tokens that made the last complete piece, and those after it. What ends in U+FFFD may be half a
    character and waits.

    The pieces joined are ``decode(all)`` without what it ends in that never became a character.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt_ids: Sequence[int] = ()) -> None:
        context = list(prompt_ids[-CONTEXT:])
        text = decode(context) if context else ""
        if text.endswith(REPLACEMENT):  # a prompt cut inside a character: its half would leak into the output
            context, text = [], ""
        self._decode = decode
        self._window = context
        self._shown = len(text)  # characters of the window's text that are out
        self._whole = len(context)  # tokens of the window whose text is out entirely

    def add(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        window = self._window
        window.append(token_id)
        text = self._decode(window)
        complete = text.rstrip(REPLACEMENT)
        piece = complete[self._shown :]
        if not piece:
            return ""
        self._shown = len(complete)
        if len(complete) == len(text):
            self._slide()
        return piece

    def _slide(self) -> None:
        """Everything is out: keep only the newest piece as the context of what follows."""
        newest = self._window[self._whole :]
        shown = len(self._decode(newest)) if self._whole else 0
        if shown:  # a window without text (special tokens only) would be no context
            self._window = newest
            self._shown = shown
        self._whole = len(self._window)


class StopStrings:
    """Finds the first stop string in text that arrives in pieces.

    Text that may be the beginning of a stop string is held back until it is known not to be.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def feed(self, piece: str) -> tuple[str, str | None]:
        """``(text that may go out, the stop string that was found or None)``."""
        text = self._held + piece
        found = min(
            ((at, stop) for stop in self._stops if (at := text.find(stop)) >= 0),
            key=lambda hit: hit[0],
            default=None,
        )
        if found is not None:
            self._held = ""
            return text[: found[0]], found[1]
        keep = self._possible_start(text)
        self._held = text[len(text) - keep :] if keep else ""
        return text[: len(text) - keep], None

    def flush(self) -> str:
        """The held text, once nothing can follow it."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Length of the longest end of ``text`` with which some stop string begins."""
        best = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(text)), best, -1):
                if text.endswith(stop[:size]):
                    best = size
                    break
        return best
