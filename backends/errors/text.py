"""Text of others (clients, engines, files) made safe for a log, a terminal and an error message. Stdlib only.

What a client sends is repeated in errors and logs: a path, a model's name, what an engine raised over a
prompt. None of it may move the cursor, change the title, write right to left, or begin a line of its own.
"""

from __future__ import annotations

import logging
import unicodedata
from types import TracebackType

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Control characters (C0, C1, DEL), format characters (bidi overrides, zero-width), lone surrogates, and the
# line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_Exception = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def visible(text: str, limit: int | None = None, keep: str = "") -> str:
    """``text`` in one line, its unsafe characters as escapes (``\\x1b``, ``\\u202e``) but for those in
    ``keep``; cut after ``limit`` characters."""
    cut = limit is not None and len(text) > limit
    shown = text[:limit] if cut else text
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(_shown(char) if char not in keep else char for char in shown)
    return f"{shown}…" if cut else shown


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _UNSAFE:
        return char
    code = ord(char)
    if code < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class VisibleFormatter(logging.Formatter):
    """One line a message, whatever is in it; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Exception) -> str:
        return visible(super().formatException(ei), keep="\n\t")


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sets up the logs of a backend's process."""
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter(LINE))
    logging.basicConfig(level=level, handlers=[handler])


def make_logs_visible() -> None:
    """In a process whose logging is Ray's: records without a handler go to stderr, which Ray copies to our
    log."""
    for handler in (logging.lastResort, *logging.getLogger().handlers):
        if handler is not None:
            handler.setFormatter(VisibleFormatter("%(levelname)s %(name)s: %(message)s"))
