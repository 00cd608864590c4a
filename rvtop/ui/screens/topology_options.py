"""The box for what a topology is started with, beside its models."""

from __future__ import annotations

import shlex
from typing import ClassVar

from rvtop.contract.handle import Choice
from rvtop.contract.start import command_line
from rvtop.ui.screens.dialog import Asked, TypedDialog

_HINT = (
    "options of python -m backends {name}, which lists them with --help: --max-num-seqs 8, "
    "--max-model-len 4096, --threads 1; they are checked as it starts. Empty: none"
)


def parse_options(text: str) -> tuple[str, ...]:
    """The words of ``text``. Raises ValueError with one line to show."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        raise ValueError("a quotation mark is never closed") from None
    if words and not words[0].startswith("--"):
        raise ValueError(f"an option begins with --, not {words[0][:20]}; for example --max-num-seqs 8")
    return words


class OptionsScreen(TypedDialog[tuple[str, ...]]):
    """Returns the words that were typed."""

    NOTHING: ClassVar[tuple[str, ...]] = ()

    def __init__(self, topology: str, now: tuple[str, ...]) -> None:
        super().__init__(
            Asked(
                f"options of {topology}",
                "enter keeps them   esc leaves them",
                _HINT.format(name=topology),
                "--max-num-seqs 8 --threads 1",
                200,
                shlex.join(now),
            ),
            parse_options,
            preview=lambda words: command_line(Choice(topology, None, (), words)),
        )
