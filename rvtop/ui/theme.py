"""Colours by meaning, and the styles that the panels draw with.

Client figures are warm (amber), server figures cool (blue), the commanded rate white and bold,
trouble red, attention yellow, stale grey. Text or a glyph always says the same as the colour.
Every colour lies in the 256-colour cube, so that a terminal without true colour shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from rich.style import Style
from textual.theme import Theme


@dataclass(frozen=True, slots=True)
class Palette:
    """One set of colours, ``#rrggbb``."""

    name: str
    dark: bool
    background: str
    raised: str  # dialogs, the cursor's row
    frame: str
    text: str
    quiet: str  # labels, units
    faint: str  # tracks, axes
    client: str
    client_shade: str  # the phase's distribution behind the last 10 s
    server: str
    server_shade: str
    command: str
    trouble: str
    attention: str
    stale: str


DARK = Palette(
    name="rvtop-dark",
    dark=True,
    background="#121212",
    raised="#262626",
    frame="#444444",
    text="#d0d0d0",
    quiet="#8a8a8a",
    faint="#585858",
    client="#ffaf00",
    client_shade="#875f00",
    server="#5fafd7",
    server_shade="#005f87",
    command="#ffffff",
    trouble="#ff5f5f",
    attention="#ffff87",
    stale="#767676",
)
LIGHT = Palette(
    name="rvtop-light",
    dark=False,
    background="#eeeeee",
    raised="#dadada",
    frame="#b2b2b2",
    text="#303030",
    quiet="#626262",
    faint="#a8a8a8",
    client="#af5f00",
    client_shade="#ffd787",
    server="#005f87",
    server_shade="#afd7ff",
    command="#000000",
    trouble="#af0000",
    attention="#5f5f00",
    stale="#808080",
)


class Styles:
    """Ready-made Rich styles of a palette: one for each meaning, all on the panel's background."""

    def __init__(self, palette: Palette) -> None:
        self.palette = palette
        on = palette.background
        self.base = Style(color=palette.text, bgcolor=on)
        self.strong = Style(color=palette.text, bgcolor=on, bold=True)
        self.quiet = Style(color=palette.quiet, bgcolor=on)
        self.faint = Style(color=palette.faint, bgcolor=on)
        self.frame = Style(color=palette.frame, bgcolor=on)
        self.frame_focus = Style(color=palette.command, bgcolor=on)
        self.client = Style(color=palette.client, bgcolor=on)
        self.client_bold = Style(color=palette.client, bgcolor=on, bold=True)
        self.client_shade = Style(color=palette.client_shade, bgcolor=on)
        self.client_on_shade = Style(color=palette.client, bgcolor=palette.client_shade)
        self.server = Style(color=palette.server, bgcolor=on)
        self.server_bold = Style(color=palette.server, bgcolor=on, bold=True)
        self.server_shade = Style(color=palette.server_shade, bgcolor=on)
        self.server_on_client = Style(color=palette.server_shade, bgcolor=palette.client)
        self.command = Style(color=palette.command, bgcolor=on, bold=True)
        self.command_on_client = Style(color=palette.command, bgcolor=palette.client, bold=True)
        self.trouble = Style(color=palette.trouble, bgcolor=on, bold=True)
        self.attention = Style(color=palette.attention, bgcolor=on)
        self.stale = Style(color=palette.stale, bgcolor=on)
        self.key = Style(color=palette.command, bgcolor=palette.raised, bold=True)
        self.cursor = Style(color=palette.command, bgcolor=palette.raised, bold=True)
        self.cursor_quiet = Style(color=palette.text, bgcolor=palette.raised)

    def textual_theme(self) -> Theme:
        """The same colours for Textual's own widgets (the dialogs' inputs)."""
        p = self.palette
        return Theme(
            name=p.name,
            primary=p.server,
            secondary=p.client,
            accent=p.command,
            warning=p.attention,
            error=p.trouble,
            success=p.server,
            foreground=p.text,
            background=p.background,
            surface=p.background,
            panel=p.raised,
            dark=p.dark,
            variables={f"rv-{f.name.replace('_', '-')}": str(getattr(p, f.name)) for f in fields(p)[2:]},
        )


def choose(environ: Mapping[str, str]) -> Styles:
    """The styles for a terminal: RVTOP_THEME=dark|light, else what COLORFGBG says, else dark."""
    wanted = environ.get("RVTOP_THEME", "").lower()
    if wanted in ("dark", "light"):
        return Styles(LIGHT if wanted == "light" else DARK)
    # "foreground;background" as rxvt, Konsole and others set it: 7 and 15 are the light backgrounds.
    behind = environ.get("COLORFGBG", "").rpartition(";")[2]
    return Styles(LIGHT if behind in ("7", "15") else DARK)
