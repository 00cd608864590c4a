"""What all dialogs share: a box in the middle of the dimmed screen."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual.screen import ModalScreen

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A modal box; its subclasses fill ``#box``. Styled in ``dialog.tcss``."""

    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (50, "-wide")]  # noqa: RUF012  (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-least"), (5, "-low"), (14, "-high")]  # noqa: RUF012
