"""What all dialogs share: a box in the middle of the dimmed screen."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual.screen import ModalScreen

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A modal box; its subclasses fill ``#box``. Styled in ``dialog.tcss``."""
