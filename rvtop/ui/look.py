"""How the screen looks and which keys it has: the user's settings, made into what the application takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rvtop.settings.load import Settings
from rvtop.ui.glyphs import wants_ascii
from rvtop.ui.theme import Styles
from rvtop.ui.themes import styles_for


@dataclass(frozen=True, slots=True)
class Look:
    """``motion`` False: drawn once a second. ``mouse`` False: the terminal keeps it.
    ``ascii``: glyphs beyond ASCII are replaced."""

    styles: Styles
    keymap: Mapping[str, Sequence[str]] = field(default_factory=dict)
    motion: bool = True
    mouse: bool = True
    ascii: bool = False


def look_of(settings: Settings, environ: Mapping[str, str]) -> Look:
    """The look that ``settings`` ask for, on the terminal of this process. Raises UserError."""
    styles = styles_for(settings.theme, environ, colours=colours_of(environ))
    ascii = wants_ascii(settings.ascii, environ, ask=True)
    return Look(styles, settings.keymap, settings.motion, settings.mouse, ascii)


def colours_of(environ: Mapping[str, str]) -> int:
    """How many colours the terminal says that it has: 16 or more."""
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return 1 << 24
    term = environ.get("TERM", "").lower()
    if term in ("linux", "vt100", "vt220", "ansi", "cons25") or term.endswith("-16color"):
        return 16
    return 256
