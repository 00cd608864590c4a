"""The one table of keys: bindings, footer, hints and help are all made from it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Key:
    """A thing to press on the live screen."""

    keys: str  # Textual's names, comma separated
    action: str
    show: str  # as people write it, in help
    about: str  # one line, in help
    short: str = ""  # as the footer writes the key; empty: not in the footer
    label: str = ""  # what the footer says beside it


LIVE: tuple[Key, ...] = (
    Key("up,plus", "nudge(1)", "↑  or +", "one request a second more", "↑↓", "±1"),
    Key("down,minus", "nudge(-1)", "↓  or -", "one request a second less"),
    Key("shift+up,pageup,right_square_bracket", "nudge(10)", "⇧↑  PgUp  ]", "ten more", "⇧↑↓", "±10"),
    Key("shift+down,pagedown,left_square_bracket", "nudge(-10)", "⇧↓  PgDn  [", "ten less"),
    Key("g", "go", "g", "type a rate", "g", "set rate"),
    Key(
        "space", "pause", "space", "stop sending, or send again; what is in flight goes on", "space", "pause"
    ),
    Key("n", "next_phase", "n", "end this phase and begin the next one of the scenario", "n", "next phase"),
    Key("tab", "app.focus_next", "tab  ⇧tab", "move to the next panel, or the one before", "tab", "panel"),
    Key("z", "zoom", "z", "give the panel in focus the whole screen, and back", "z", "zoom"),
    Key("escape", "back", "esc", "leave the zoom, then the panel"),
    Key("question_mark", "help", "?", "what the figures mean; the panel in focus first", "?", "help"),
    Key("q", "quit", "q", "end the load and what rvtop started, write the results, leave", "q", "quit"),
    Key("enter", "again", "enter", "when a session is over: choose another one"),
)

#: The rate keys as the load panel's frame hints at them.
RATE_HINT = "↑↓ ±1   ⇧↑↓ ±10   g set rate   space pause"


def bindings(keys: tuple[Key, ...] = LIVE) -> list[BindingType]:
    """Textual bindings of the table."""
    return [Binding(key.keys, key.action, key.about, show=False) for key in keys]
