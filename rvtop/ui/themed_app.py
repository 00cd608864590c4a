"""An app whose theme can change while it runs, by a key or by its file."""

from __future__ import annotations

import os

from rvtop.errors import UserError
from rvtop.ui.ordered_keys import OrderedKeysApp
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.theme import Styles
from rvtop.ui.themes import ThemeFile, next_theme, styles_for


class ThemedApp(OrderedKeysApp):
    """``rich_styles`` are the looks in force."""

    def __init__(self, styles: Styles) -> None:
        theme = styles.textual_theme()
        super().__init__(ansi_color=True if theme.ansi else None)
        self.rich_styles = styles
        self._theme_file = ThemeFile(styles.palette.name, os.environ)
        self.register_theme(theme)
        self.theme = theme.name

    def say(self, text: str) -> None:
        """Shows a notice for some seconds."""
        raise NotImplementedError

    def action_next_theme(self) -> None:
        """The theme after this one."""
        name = next_theme(self.rich_styles, os.environ)
        if name is None:
            self.say(f"{self.rich_styles.palette.name}: this terminal has one theme")
        else:
            self._use_theme(name)

    def reload_theme(self) -> None:
        """Takes the theme's file again if it has changed."""
        if self._theme_file.changed():
            self._use_theme(self.rich_styles.palette.name)

    def _use_theme(self, name: str) -> None:
        try:
            styles = styles_for(name, os.environ)
        except UserError as error:
            self.say(str(error))
            return
        self.rich_styles = styles
        self._theme_file = ThemeFile(name, os.environ)
        theme = styles.textual_theme()
        self.register_theme(theme)
        if self.theme == theme.name:
            self.refresh_css(animate=False)
        self.theme = theme.name
        for screen in self.screen_stack:
            if isinstance(screen, SessionScreen | StartScreen):
                screen.restyle()
            screen.refresh(layout=False)
        self.say(f"theme {name}")
