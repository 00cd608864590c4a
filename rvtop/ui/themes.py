"""Which theme is drawn with: one of ours, one from a file of the user, or what the terminal can show."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from rvtop.errors import UserError
from rvtop.settings.paths import themes_folder
from rvtop.ui.theme import ANSI, CONTRAST, DARK, LIGHT, ROLES, SAFE, MonoStyles, Palette, Styles

OURS = {palette.name: palette for palette in (DARK, LIGHT, CONTRAST, SAFE)}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def styles_for(name: str, environ: Mapping[str, str], *, colours: int = 256) -> Styles:
    """The styles of the theme ``name``, of ``auto`` what suits the terminal. Raises UserError.

    ``colours``: how many the terminal has. With 16 of them, or NO_COLOR, there is only one theme.
    """
    if environ.get("NO_COLOR"):
        return MonoStyles()
    if colours <= 16:
        return Styles(ANSI)
    if name == "auto":
        # "foreground;background" as rxvt, Konsole and others set it: 7 and 15 are the light backgrounds.
        behind = environ.get("COLORFGBG", "").rpartition(";")[2]
        return Styles(LIGHT if behind in ("7", "15") else DARK)
    if name in OURS:
        return Styles(OURS[name])
    file = themes_folder(environ) / f"{name}.yaml"
    if not file.exists():
        known = ("auto", *theme_names(environ))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise UserError(f"theme {name}: there is none; {hint} (your own: {file})")
    return Styles(theme_of(file))


def theme_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Our themes, then the user's by name."""
    try:
        files = sorted(path.stem for path in themes_folder(environ).glob("*.yaml"))
    except OSError:
        files = []
    return (*OURS, *(name for name in files if name not in OURS))


def next_theme(styles: Styles, environ: Mapping[str, str]) -> str | None:
    """The name of the theme after the one of ``styles``; None where there is only one."""
    names = theme_names(environ)
    if styles.palette.name not in names:
        return None if styles.palette.background.startswith("ansi") else names[0]
    return names[(names.index(styles.palette.name) + 1) % len(names)]


def theme_of(file: Path) -> Palette:
    """A theme file: ``base`` (one of ours) and the roles that differ, as ``#rrggbb``. Raises UserError."""
    from rvtop.system.yaml_lines import FileError, parse, read_text

    shown = str(file)
    data, nodes = parse(read_text(file, shown), shown)
    base = data.pop("base", "dark")
    if base not in OURS:
        raise FileError(shown, nodes.line(("base",)), "base", f"must be one of {', '.join(OURS)}, got {base}")
    for role, colour in data.items():
        if role not in ROLES:
            close = difflib.get_close_matches(role, ROLES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: base, {', '.join(ROLES)}"
            raise FileError(shown, nodes.line((role,)), role, f"unknown; {hint}")
        if not isinstance(colour, str) or not _COLOUR.fullmatch(colour):
            raise FileError(
                shown, nodes.line((role,)), role, f'must be a colour such as "#ffaf00", got {colour}'
            )
    colours = {role: data.get(role, getattr(OURS[base], role)) for role in ROLES}
    return Palette(file.stem, OURS[base].dark, **colours)


class ThemeFile:
    """Says when the file of a theme has changed."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self._file = None if name in OURS else themes_folder(environ) / f"{name}.yaml"
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if stat is None else (stat.st_mtime_ns, stat.st_size)

    def changed(self) -> bool:
        """Whether it is another than at the last call; a file that is gone has not changed."""
        now = self._stamp()
        if now is None or now == self._seen:
            return False
        self._seen = now
        return True
