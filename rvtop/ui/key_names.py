"""The names of keys: as Textual has them, as people write them."""

from __future__ import annotations

_CHARACTERS = {
    **{"plus": "+", "minus": "-", "colon": ":", "question_mark": "?", "space": "space", "escape": "esc"},
    **{"left_square_bracket": "[", "right_square_bracket": "]", "full_stop": ".", "comma": ","},
    **{"left_curly_bracket": "{", "right_curly_bracket": "}", "slash": "/", "apostrophe": "'"},
    **{"up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "PgUp", "pagedown": "PgDn", "f1": "F1"},
    **{"semicolon": ";", "equals_sign": "=", "underscore": "_", "exclamation_mark": "!", "number_sign": "#"},
    **{
        "less_than_sign": "<",
        "greater_than_sign": ">",
        "asterisk": "*",
        "at": "@",
        "tilde": "~",
        "backslash": "\\",
    },
}
_NAMES = {shown: key for key, shown in _CHARACTERS.items()}
#: Further keys that may be given to an action; single letters and digits need no entry.
_PLAIN = {"enter", "tab", "home", "end", "insert", "delete", "backspace", *_CHARACTERS}


def shown_key(key: str) -> str:
    """A key as people write it: ``shift+up`` as ``⇧↑``."""
    if key.startswith("shift+"):
        return "⇧" + shown_key(key.removeprefix("shift+"))
    return _CHARACTERS.get(key, key)


def key_named(text: str) -> str:
    """Textual's name of the key that a keymap calls ``text``. Raises ValueError with the hint to show."""
    held, _, key = text.rpartition("+") if len(text) > 1 and not text.endswith("+") else ("", "", text)
    key = _NAMES.get(key, key)
    known = key in _PLAIN or (len(key) == 1 and key.isascii() and key.isalnum())
    if held not in ("", "shift", "ctrl") or not (known or key == "f1"):
        raise ValueError(f"{text}: no such key; write for example z, W, ], shift+up, ctrl+p, home")
    if held == "ctrl" and (len(key) != 1 or key in "cqszab"):
        raise ValueError(f"{text}: this key can't be had: it is the terminal's, or rvtop's own")
    return f"{held}+{key}" if held else key
