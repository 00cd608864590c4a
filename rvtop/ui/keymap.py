"""The table of actions with a user's keys, and what is made of it: bindings, and the footer's keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rvtop.errors import UserError
from rvtop.ui.action import Action
from rvtop.ui.key_names import key_named, shown_key
from rvtop.ui.keys import ACTIONS

if TYPE_CHECKING:
    from textual.binding import BindingType

#: The name of each action of a keymap that is wrong, and why.
Faults = list[tuple[str, str]]


def names() -> tuple[str, ...]:
    """The names that a keymap may hold."""
    return tuple(action.name for action in ACTIONS if not action.fixed)


def _given(keymap: Mapping[str, Sequence[str]], actions: Iterable[Action]) -> tuple[list[Action], Faults]:
    """The table with a user's keys, and what is wrong with them: the action's name in the keymap, and why."""
    faults: Faults = []
    known = names()
    for name in keymap:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "rvtop's ? lists them"
            faults.append((name, f"no such action; {hint}"))
    made: list[Action] = []
    taken: dict[str, list[Action]] = {}
    for action in actions:
        if action.name in keymap and not action.fixed:
            keys = []
            for text in keymap[action.name]:
                try:
                    keys.append(key_named(text))
                except ValueError as error:
                    faults.append((action.name, str(error)))
            action = replace(action, keys=tuple(keys))
        for key in action.keys:
            for other in taken.setdefault(key, []):
                if other.name != action.name and other.meets(action):
                    names_ = f"{other.name} and of {action.name}"
                    why = f"{shown_key(key)} would be the key of {names_}; give one another"
                    faults.append((action.name if action.name in keymap else other.name, why))
            taken[key].append(action)
        made.append(action)
    return made, faults


def keymap_faults(keymap: Mapping[str, Sequence[str]]) -> Faults:
    """All that is wrong with a keymap: the action's name in it, and why."""
    return _given(keymap, ACTIONS)[1]


def with_keymap(
    keymap: Mapping[str, Sequence[str]], actions: Iterable[Action] = ACTIONS
) -> tuple[Action, ...]:
    """The table with a user's keys. Raises UserError for names, keys and clashes that can't be."""
    made, faults = _given(keymap, actions)
    for name, why in faults:
        raise UserError(f"keymap: {name}: {why}")
    return tuple(made)


def footer_key(action: Action, actions: Sequence[Action]) -> str:
    """The key as the footer writes it, with that of its pair: ``↑↓``, ``⇧↑↓``, ``w W``; or empty."""
    if not action.keys:
        return ""
    first = shown_key(action.keys[0])
    other = next((one for one in actions if one.name == action.pair), None)
    if other is None or not other.keys:
        return first
    second = shown_key(other.keys[0])
    if first.startswith("⇧") and second.startswith("⇧"):
        second = second[1:]
    return first + second if first[-1] in "↑←" else f"{first} {second}"


def bindings(actions: Iterable[Action], places: str) -> list[BindingType]:
    """Textual bindings of those actions that hold in ``places``."""
    from textual.binding import Binding

    return [
        Binding(",".join(action.keys), action.action, action.about, show=False)
        for action in actions
        if action.holds(places) and action.keys and not action.fixed
    ]
