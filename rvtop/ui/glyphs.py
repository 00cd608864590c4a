"""The two sets of glyphs, and which of them a terminal gets. Panels draw with the full set; where only ASCII
is to be written, each line is translated glyph by glyph on its way out, so that nothing moves."""

from __future__ import annotations

import codecs
import locale
import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Mapping

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

#: How long the terminal may take to say where its cursor is, seconds; through ssh too.
PROBE_S = 0.3
_PAIRS = (
    ("▁▂▃▄▅▆▇█", ".:-=+*#@"),  # columns
    ("▀▔▌▐▕▏", "'-||||"),
    ("■▣·", "#%."),  # bars, tracks
    ("▒░▓", ":.%"),  # the longer past, what is planned
    ("╌╎┊┈", "~'!!"),  # a ghost, a limit
    ("●◐○◌◎✗✓‖▽", "@+o-Ox*=v"),  # states
    ("┄─━│┃", "--=||"),  # rules, axes
    ("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛", "+" * 17),
    ("◆◇▾▼▲▸▹▶◂", "*ovV^>>><"),  # events, marks
    ("↑↓←→⇧", "^v<>S"),
    ("…±×µ≤≥–—−≈•’“”∥", '~+xu<>---~*\'""|'),
)
TO_ASCII = {ord(a): b for full, plain in _PAIRS for a, b in zip(full, plain, strict=True)}


class AsciiGlyphs(LineFilter):
    """Writes ASCII in place of the glyphs of the full set; text of other scripts stays what it is."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text if text.isascii() else text.translate(TO_ASCII), style, control)
            for text, style, control in segments
        ]


def wants_ascii(asked: bool | None, environ: Mapping[str, str], *, ask: bool = False) -> bool:
    """Whether to draw with ASCII alone: as ``asked``, else by locale and TERM, else (with ``ask``) by how
    wide the terminal draws ``●``."""
    if asked is not None:
        return asked
    if environ.get("TERM", "") in ("linux", "dumb"):
        return True
    try:  # not getpreferredencoding: with LC_ALL=C Python turns to UTF-8 by itself, the terminal does not
        utf8 = codecs.lookup(locale.getencoding()).name == "utf-8"
    except LookupError:
        utf8 = False
    if not utf8:
        return True
    return ask and glyph_cells() == 2


def glyph_cells(
    fd_in: int | None = None, fd_out: int | None = None, timeout_s: float = PROBE_S
) -> int | None:
    """How many cells the terminal gives ``●``: draws one, asks for the cursor (CSI 6n), and wipes it away.

    None where it is no terminal or does not answer in time. The answer stands behind what was typed since the
    process began, which is read with it and dropped: it was typed before there was anything to see.
    """
    try:
        fd_in = sys.stdin.fileno() if fd_in is None else fd_in
        fd_out = sys.stderr.fileno() if fd_out is None else fd_out
        if not (os.isatty(fd_in) and os.isatty(fd_out)):
            return None
        before = termios.tcgetattr(fd_in)
    except (OSError, ValueError, termios.error):
        return None
    try:
        tty.setcbreak(fd_in, termios.TCSANOW)
        os.write(fd_out, "\r●\x1b[6n".encode())
        said = b""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0 and select.select([fd_in], [], [], left)[0]:
            if not (read := os.read(fd_in, 64)):
                return None
            said += read
            if found := re.search(rb"\x1b\[\d+;(\d+)R", said):
                return int(found[1]) - 1
        return None
    except OSError:
        return None
    finally:
        os.write(fd_out, b"\r\x1b[K")
        termios.tcsetattr(fd_in, termios.TCSANOW, before)
