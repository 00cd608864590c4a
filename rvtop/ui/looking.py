"""Looks around for servers and runs in a thread, for a screen that lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from rvtop.contract.start import LookAround, StartFacts


def look(screen: Screen[Any], look_around: LookAround, take: Callable[[StartFacts], None]) -> None:
    """Hands what ``look_around`` finds to ``take``, in the screen's own thread and unless it was left."""

    def shown(facts: StartFacts) -> None:
        if screen.is_attached:
            take(facts)

    def find() -> None:
        screen.app.call_from_thread(shown, look_around())

    screen.run_worker(find, thread=True, exclusive=True, group="look")
