"""An app in which a key is done with before the next one is looked at."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from textual._time import get_time
from textual.app import App
from textual.events import Event, Key, Paste
from textual.screen import Screen
from textual.widgets import Input


class OrderedKeysApp(App[int]):
    """Textual hands each key to the widget in focus and does what it is bound to once it has come back from
    there. Of keys typed at once the next ones go to that widget too, also behind an ``enter`` that leaves it
    or a key that opens another screen. Here a key goes to whatever has the focus after the one before it.
    What was typed before the first picture is dropped."""

    _drawn_at: float | None = None  # when the first picture was drawn, of the clock that dates events

    @property
    def hears(self) -> bool:
        """Whether keys mean something: there is a picture to answer to."""
        return self._drawn_at is not None

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Each picture, on its way to the terminal."""
        drawn = renderable is not None and not self._batch_count and screen.id != "_default"
        if drawn and self._drawn_at is None:
            self._drawn_at = get_time()
        super()._display(screen, renderable)

    def _typed_blind(self, event: Key | Paste) -> bool:
        """Whether it comes from before the first picture: it would do whatever that has under its cursor."""
        if isinstance(event, Key) and event.key == "ctrl+c":
            return False
        return self._drawn_at is None or event.time < self._drawn_at

    async def on_event(self, event: Event) -> None:
        """What comes from the terminal, and messages of the app's own."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        if self._typed_blind(event):
            return
        if not self.screen_stack:  # it closes
            return
        self.app_focus = True
        await self.screen._mounted_event.wait()  # one that was just opened has no widgets yet
        line = self.focused
        if isinstance(event, Paste):
            if isinstance(line, Input):
                line._on_paste(event)
        elif await self._check_bindings(event.key, priority=True):
            return
        elif isinstance(line, Input) and event.is_printable:
            await line._on_key(event)
        else:
            await self._check_bindings(event.key)
