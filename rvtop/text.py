"""Text of others (servers, files, logs) made safe to show: what would move a cursor, reorder or hide a line
becomes a visible escape."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

#: Escaped wherever they stand: C0, DEL and C1 controls; lone surrogates; what reorders a line (bidi marks,
#: embeddings, overrides, isolates) or breaks it (U+2028, U+2029); what shows nothing (soft hyphen, zero-width
#: space, word joiner, byte order mark, fillers, annotations, tags). A flag spelled with tags shows them.
_ALWAYS = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_JOINERS = "\u200c\u200d"
#: Joiners and variation selectors make emoji and shape letters of Persian and Indic scripts, so they stay
#: behind a character beyond ASCII (a selector also behind the digit of a keycap); elsewhere, and in a row,
#: they only hide: a model id's twin, a message in selectors.
_UNSAFE = (
    f"[{_ALWAYS}]"
    f"|(?<![^\x00-\x7f{_ALWAYS}{_JOINERS}])[{_JOINERS}]"
    f"|(?<![^\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f{_ALWAYS}{_JOINERS}{_SELECTORS}])[{_SELECTORS}]"
)
#: No name that somebody reads is longer.
NAME_LIMIT = 200
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")


@cache
def _unsafe() -> re.Pattern[str]:
    """Compiled when the first text needs it: that takes a load worker a fortieth of its start."""
    return re.compile(_UNSAFE)


def printable(text: str, limit: int | None = None) -> str:
    """``text`` on one line, with every character that is not to be seen as it is written as an escape
    (``\\x1b``, ``\\n``, ``\\u202e``). At most ``limit`` (1 or more) characters; ``…`` ends what was cut.

    Letters of all scripts and emoji stay. Safe text stays as it is, so it may be passed twice.
    """
    if limit is not None and len(text) > limit:
        # What is cut off needs no escapes: the cost is that of the limit, not of the text.
        return printable(text[:limit])[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    safe = _unsafe().sub(_escaped, text)
    return safe if limit is None or len(safe) <= limit else safe[: limit - 1] + "…"


def printable_names(names: Iterable[str], limit: int = NAME_LIMIT) -> tuple[str, ...]:
    """Each name ``printable``, and still different from those before it: in a run folder names are keys."""
    safe: dict[str, None] = {}
    for name in names:
        shown, number = printable(name, limit), 2
        while shown in safe:
            shown, number = f"{printable(name, limit)} ({number})", number + 1
        safe[shown] = None
    return tuple(safe)


def told(value: Any, limit: int | None = None) -> str:
    """``printable`` of any JSON value: a string as it is, "" for None, and what should have been a string."""
    if isinstance(value, str):
        return printable(value, limit)
    if value is None:
        return ""
    try:
        return printable(str(value), limit)
    except (ValueError, RecursionError):  # an integer of too many digits, a list too deep
        return f"({type(value).__name__})"


def digits(value: float | None) -> str:
    """Three significant digits, or ``--``."""
    if value is None:
        return "--"
    if value == 0:
        return "0"
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e" in text else text


def percent(share: float | None) -> str:
    """A share 0..1 in percent, as ``digits``: ``12.5 %``, ``-- %``."""
    return f"{digits(None if share is None else 100 * share)} %"


def printable_json(value: Any) -> Any:
    """The JSON value with all its text ``printable``, the keys too."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): printable_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [printable_json(inner) for inner in value]
    return value


def log_line(line: str, limit: int | None = None) -> str:
    """A line of a log, ``printable``: its colours are dropped, tabs become spaces."""
    return printable(_COLOURS.sub("", line.rstrip("\r\n")).expandtabs(), limit)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if code < 0x100:
        return _NAMED.get(char) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


#: What marks a phase that began anew, as the run files name it, and what it is the next of.
_ANEW = re.compile(r"#(again|target)-(\d+)")
_OF = {"again": "time", "target": "server"}


#: What the name of a phase's beginning ends in that was left out of a run's figures.
LEFT_OUT = "#warm-up"


def phase_words(name: str) -> str:
    """How a person reads a phase's name: ``hold#target-2``, begun anew on the second server that it had, is
    ``hold, 2nd server``; ``hold#again-3`` is ``hold, 3rd time``; ``hold#warm-up``, its beginning that was
    left out, is ``hold, warm-up``. Others stay as they are."""
    name = name.removesuffix(LEFT_OUT) + (", warm-up" if name.endswith(LEFT_OUT) else "")
    return _ANEW.sub(lambda found: f", {_ordinal(int(found[2]))} {_OF[found[1]]}", name)


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number % 10, 'th')}"
