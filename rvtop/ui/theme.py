"""Colours by meaning, and the styles that the panels draw with.

Client figures are warm (amber), server figures cool (blue), the commanded rate white and bold,
trouble red, attention yellow, stale grey. Text or a glyph always says the same as the colour.
Every colour lies in the 256-colour cube, so that a terminal without true colour shows the same.
``themes.py`` chooses one, and reads those of the user.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rich.style import Style
from textual.theme import Theme


@dataclass(frozen=True, slots=True)
class Palette:
    """One set of colours, ``#rrggbb`` or Textual's names of a terminal's 16 (``ansi_bright_blue``)."""

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
    ghost: str  # an earlier run, drawn behind the live one
    trouble: str
    attention: str
    stale: str


def _palette(name: str, dark: bool, colours: str) -> Palette:
    """A palette of ``#`` colours, in the order of the fields."""
    return Palette(name, dark, *(f"#{colour}" for colour in colours.split()))


#: The colours a palette has, in the order of the tables below.
ROLES = tuple(field.name for field in fields(Palette)[2:])

DARK = _palette(
    "dark",
    True,
    "121212 262626 444444 d0d0d0 8a8a8a 585858 ffaf00 875f00 "
    "5fafd7 005f87 ffffff bcbcbc ff5f5f ffff87 808080",
)
LIGHT = _palette(
    "light",
    False,
    "eeeeee dadada b2b2b2 303030 5f5f5f 9e9e9e 875f00 ffd787 "
    "005f87 afd7ff 000000 4e4e4e af0000 5f5f00 6c6c6c",
)
CONTRAST = _palette(
    "contrast",
    True,
    "000000 303030 9e9e9e ffffff d0d0d0 9e9e9e ffaf00 af8700 "
    "5fd7ff 0087af ffffff e4e4e4 ff8787 ffff5f bcbcbc",
)
SAFE = _palette(
    "safe",
    True,
    "121212 262626 444444 d0d0d0 8a8a8a 585858 ffaf00 875f00 "
    "5f87ff 005faf ffffff bcbcbc ff5f5f ffffaf 808080",
)
_BRIGHT = "ansi_bright_"
#: For terminals of 16 colours: whatever they are set to.
ANSI = Palette(
    "16 colours",
    True,
    *("ansi_default", f"{_BRIGHT}black", f"{_BRIGHT}black", "ansi_white", "ansi_white", f"{_BRIGHT}black"),
    *(f"{_BRIGHT}yellow", "ansi_yellow", f"{_BRIGHT}cyan", "ansi_cyan", f"{_BRIGHT}white", "ansi_white"),
    *(f"{_BRIGHT}red", f"{_BRIGHT}yellow", f"{_BRIGHT}black"),
)
#: For NO_COLOR: the terminal's own two colours; ``MonoStyles`` says with attributes what colours say.
MONO = Palette("no colour", True, *["ansi_default"] * len(ROLES))


def rich_colour(colour: str) -> str:
    """Rich's name of a palette's colour."""
    return colour.removeprefix("ansi_")


class Styles:
    """Ready-made Rich styles of a palette: one for each meaning, all on the panel's background."""

    def __init__(self, palette: Palette) -> None:
        self.palette = palette

        def style(role: str, behind: str = "background", *, bold: bool = False) -> Style:
            colours = (rich_colour(getattr(palette, one)) for one in (role, behind))
            return self.attributes(role, behind) + Style(
                color=next(colours), bgcolor=next(colours), bold=bold
            )

        self.base = style("text")
        self.strong = style("text", bold=True)
        self.quiet = style("quiet")
        self.faint = style("faint")
        self.frame = style("frame")
        self.frame_focus = style("command", bold=self.bold_focus)
        self.client = style("client")
        self.client_bold = style("client", bold=True)
        self.client_shade = style("client_shade")
        self.client_on_shade = style("client", "client_shade")
        self.server = style("server")
        self.server_bold = style("server", bold=True)
        self.server_shade = style("server_shade")
        self.server_on_shade = style("server", "server_shade")
        self.server_on_client = style("server_shade", "client")
        self.command = style("command", bold=True)
        self.command_on_client = style("command", "client", bold=True)
        self.ghost = style("ghost")
        self.ghost_on_client = style("background", "client")
        self.trouble = style("trouble", bold=True)
        self.attention = style("attention")
        self.stale = style("stale")
        self.key = style("command", "raised", bold=True)
        self.cursor = style("command", "raised", bold=True)
        self.cursor_quiet = style("text", "raised")

    #: Whether the rule of the panel in focus needs more than its colour (it is heavier in any case).
    bold_focus = False

    def attributes(self, role: str, behind: str) -> Style:
        """What a role has besides its colours."""
        return Style.null()

    def textual_theme(self) -> Theme:
        """The same colours for Textual's own widgets (the dialogs' inputs)."""
        p = self.palette
        return Theme(
            name=f"rvtop-{p.name}",
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
            ansi=p.background.startswith("ansi"),
            variables={
                "ansi-background": p.background,  # Textual's own style sheets ask for it with ``ansi``
                "ansi-foreground": p.text,
                **{f"rv-{role.replace('_', '-')}": str(getattr(p, role)) for role in ROLES},
            },
        )


class MonoStyles(Styles):
    """Without any colour: the client is plain, the server underlined, a command bold, and so on."""

    bold_focus = True
    _BY_ROLE = {  # noqa: RUF012  (never changed)
        "server": Style(underline=True),
        "ghost": Style(dim=True),
        "stale": Style(dim=True),
        "client_shade": Style(dim=True),
        "server_shade": Style(dim=True),
        "trouble": Style(reverse=True),
        "attention": Style(bold=True, underline=True),
    }

    def __init__(self) -> None:
        super().__init__(MONO)
        self.attention = self.attention + Style(bold=True)

    def attributes(self, role: str, behind: str) -> Style:
        if behind == "raised":
            return Style(reverse=True)
        return self._BY_ROLE.get(role, Style.null())
