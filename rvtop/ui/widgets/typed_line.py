"""The line that a dialog asks for."""

from __future__ import annotations

from collections.abc import Callable

from textual.widgets import Input


class TypedLine(Input):
    """``enter`` hands what is typed to ``submit`` at once. A message would come after the keys that were
    typed behind it, which would go into the line that was left."""

    def __init__(self, submit: Callable[[str], None], value: str = "", *, hint: str, longest: int) -> None:
        super().__init__(value, placeholder=hint, max_length=longest)
        self.cursor_blink = False
        self._submit = submit

    async def action_submit(self) -> None:
        self._submit(self.value)
