"""An app in which a key is done with before the next one is looked at."""

from __future__ import annotations

from textual.app import App
from textual.events import Event, Key, Paste
from textual.widgets import Input


class OrderedKeysApp(App[int]):
    """Textual hands each key to the widget in focus and does what it is bound to once it has come back from
    there. Of keys typed at once the next ones go to that widget too, also behind an ``enter`` that leaves it
    or a key that opens another screen. Here a key goes to whatever has the focus after the one before it."""

    _hears = False  # keys mean something: there was a picture to answer to

    def hear(self) -> None:
        """Takes keys from now on: the first picture is drawn. What was typed before was typed blind, and is
        dropped, all but ctrl+c."""
        self._hears = True

    async def on_event(self, event: Event) -> None:
        """What comes from the terminal, and messages of the app's own."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        if not self._hears and (isinstance(event, Paste) or event.key != "ctrl+c"):
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
