"""The one table of what can be done, each with its name and keys: bindings, footer, hints, palette, help and
the ``keymap`` of the settings are all made from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rvtop.errors import UserError
from rvtop.ui.key_names import key_named, shown_key

if TYPE_CHECKING:
    from textual.binding import BindingType


#: What holds on each kind of screen: live, map, requests, KV map, events, showdown, stored run, start.
SCREEN_PLACES = ("A*L", "A*M", "A*Q", "A*K", "AE", "AC", "AZ", "AW", "AP", "AS")
Faults = list[tuple[str, str]]
#: Where the screens' keys begin in the footer: behind all others, and left out before them.
SCREENS_FOOT = 20
#: The action that is there with --serve alone.
WEB_VIEW = "app.copy_web_address"


@dataclass(frozen=True, slots=True)
class Action:
    """A thing to do. ``name`` stands in the palette and in ``keymap``; ``keys`` are Textual's names."""

    name: str
    action: str  # Textual's action
    keys: tuple[str, ...]
    about: str  # one line, in help
    where: str = "A"  # where it holds: A everywhere, * where a load runs, or letters of SCREEN_PLACES
    foot: int = 0  # the place in the footer; 0: not in it
    label: str = ""  # what the footer says beside the key
    pair: str = ""  # the action whose key stands beside this one's in the footer
    fixed: bool = False  # its keys can't be given away
    steering: bool = False  # steers the session, also where it does not hold wherever a load runs

    @property
    def steers(self) -> bool:
        """Whether it changes the load, the target, the SLO or what is recorded."""
        return self.steering or "*" in self.where

    def holds(self, places: str) -> bool:
        """Whether it can be done on a screen of these places."""
        return any(place in places for place in self.where)

    def meets(self, other: Action) -> bool:
        """Whether there is a screen on which both can be done, so that they can't share a key."""
        return any(self.holds(places) and other.holds(places) for places in SCREEN_PLACES)

    @property
    def show(self) -> str:
        """All its keys, as people write them."""
        return "  ".join(shown_key(key) for key in self.keys)


ACTIONS: tuple[Action, ...] = (
    Action(
        "rate: one more",
        "nudge(1)",
        ("up", "plus"),
        "one request a second more",
        "*",
        1,
        "±1",
        "rate: one less",
    ),
    Action("rate: one less", "nudge(-1)", ("down", "minus"), "one request a second less", "*"),
    Action(
        "rate: 10 % more",
        "percent(10)",
        ("shift+up", "right_square_bracket", "pageup"),
        "10 % more; from 0 it begins at 1",
        *("*", 2, "±10 %", "rate: 10 % less"),
    ),
    Action(
        "rate: 10 % less",
        "percent(-10)",
        ("shift+down", "left_square_bracket", "pagedown"),
        "10 % less",
        "*",
    ),
    Action("rate: twice", "times(2)", ("right_curly_bracket",), "twice the rate", "*"),
    Action("rate: half", "times(0.5)", ("left_curly_bracket",), "half the rate", "*"),
    Action(
        "rate: set, ramp, spike", "go", ("g",), "48, +10%, x2, 96 in 60s, 200 for 10s", "*", 3, "set rate"
    ),
    Action(
        "load: pause, go on",
        "pause",
        ("space",),
        "stop sending, or send again; what is in flight goes on",
        *("*", 4, "pause"),
    ),
    Action(
        "load: undo the last command",
        "undo",
        ("u",),
        "take back the last command that changed the load: its rate, a pause",
        "*",
    ),
    Action(
        "load: cancel all in flight",
        "cancel",
        ("X",),
        "end what is in flight, as cancelled (asks first); the load goes on",
        "*",
    ),
    Action(
        "workload: lengths, prefix",
        "workload",
        ("o",),
        "other lengths of prompts and answers, a shared prefix: in 512 out 128 prefix 1024 80%",
        "LM",
        steering=True,
    ),
    Action(
        "SLO: set", "slo", ("L",), "count goodput by other limits: 200, ttft 200 e2e 5s", "LM", steering=True
    ),
    Action(
        "mark: with a note",
        "mark",
        ("m",),
        "note that something happened now: an event, and a line of the command log",
        *("LMQ", 9, "mark"),
        steering=True,
    ),
    Action(
        "record: begin, end",
        "record",
        ("r",),
        "record scenario and hands as a scenario file, or end that and name the file",
        *("*", 12, "record"),
    ),
    Action("save: page, scenario", "save", ("s",), "a report, a page that plays it, a recording", "LMQPZ"),
    Action(
        "ghost: show, hide",
        "ghost",
        ("b",),
        "what was before, behind what is; on the map above it",
        *("LMP", 8, "ghost"),
    ),
    Action("ghost: keep now", "keep_ghost", ("B",), "compare what comes with what is now", "LMP"),
    Action(
        "phase: next",
        "next_phase",
        ("n",),
        "end this phase, begin the scenario's next; in a showdown: skip the topology that runs",
        "LW",
        13,
        "next phase",
        steering=True,
    ),
    Action(
        "phase: begin anew here",
        "phase_again",
        ("N",),
        "end this phase and begin it once more",
        "L",
        steering=True,
    ),
    Action("panel: next", "app.focus_next", ("tab",), "move to the next panel"),
    Action("panel: one before", "app.focus_previous", ("shift+tab",), "move to the panel before"),
    Action("panel: zoom", "zoom", ("z",), "give the panel in focus the whole screen, and back", "LP"),
    Action(
        "view: freeze, follow",
        "freeze",
        ("f",),
        "hold the picture, and follow again; the load goes on",
        *("L", 10, "freeze"),
    ),
    Action(
        "window: shorter",
        "window(-1)",
        ("w",),
        "charts show less time",
        "LP",
        11,
        "time span",
        "window: longer",
    ),
    Action("window: longer", "window(1)", ("W",), "charts show more time", "LP"),
    Action(
        "log: the backend's", "log", ("l",), "show the end of the log of a server that rvtop started", "LM"
    ),
    Action("describe: the server", "describe", ("d",), "its engines, their arguments, versions", "LM"),
    Action("engine: open", "open", ("enter",), "all that the engine at the cursor tells", "M", 6, "engine"),
    Action("instant: before", "instant(-1)", ("left",), "freeze, and show the second before", "L"),
    Action("instant: after", "instant(1)", ("right",), "show the second after", "L"),
    Action("instant: 10 s before", "instant(-10)", ("shift+left",), "freeze, and go back 10 s", "L"),
    Action("instant: 10 s after", "instant(10)", ("shift+right",), "go 10 s on", "L"),
    Action("instant: next mark", "next_mark", ("apostrophe",), "freeze, and go to the next mark, phase", "L"),
    Action("verdict: why", "verdict", ("v",), "what binds it, by which figures; enter tries its knob", "L"),
    Action("charts: time, rate", "by_rate", ("x",), "draw the charts against the rate, and back", "LP"),
    Action(
        "legend: hide a line",
        "hide_next",
        ("H",),
        "hide the next line of the panel in focus, behind the last one none; a click on its name does too",
        "LP",
    ),
    Action(
        "picture: SVG",
        "picture",
        ("S",),
        "write the screen as SVG into the run's pictures/ or the folder here",
    ),
    Action("copy: the panel's figures", "copy", ("y",), "copy the panel in focus, or the screen, as text"),
    Action("web view: copy its address", WEB_VIEW, (), "with its token, for another browser (--serve)"),
    Action("theme: next", "app.next_theme", ("T",), "dark, light, contrast, safe and your own"),
    Action("palette", "palette", ("colon", "ctrl+p"), "every action by its name", "A", 14, "all"),
    Action("help", "help", ("question_mark", "f1"), "what the panel shows; again: all keys", "A", 15, "help"),
    Action("back one step", "back", ("escape",), "leave the zoom, then the panel"),
    Action("list: next", "cursor(1)", ("j",), "the row below (↓)", "MQKECZ", 5, "choose", "list: before"),
    Action("list: before", "cursor(-1)", ("k",), "the row above (↑)", "MQKECZ"),
    Action("filter", "filter", ("slash",), "list only what holds a text", "QE", 6, "filter"),
    Action("events: all", "events", ("e",), "every event, with a filter; again: back", "LME"),
    Action("requests: order", "order", ("o",), "by TTFT, by E2E, the newest first", "Q", 8, "order"),
    Action("requests: errors only", "errors", ("e",), "list only what failed", "Q", 10, "errors only"),
    Action("requests: prompt", "prompt", ("v",), "show the prompt of the chosen request", "Q", 11, "text"),
    Action("replay: play, pause", "play", ("space",), "go on, or hold this instant", "P", 1, "play"),
    Action("replay: 1 s back", "move(-1)", ("left",), "the second before", "P", 2, "1 s", "replay: 1 s on"),
    Action("replay: 1 s on", "move(1)", ("right",), "the second after", "P"),
    Action(
        "replay: 10 s back",
        "move(-10)",
        ("shift+left", "pageup"),
        "ten seconds before",
        *("P", 3, "10 s", "replay: 10 s on"),
    ),
    Action("replay: 10 s on", "move(10)", ("shift+right", "pagedown"), "ten seconds after", "P"),
    Action(
        "replay: one picture back",
        "frame(-1)",
        ("comma",),
        "the picture before, and hold it",
        *("P", 4, "one picture", "replay: one picture on"),
    ),
    Action("replay: one picture on", "frame(1)", ("full_stop",), "the picture after, and hold it", "P"),
    Action(
        "replay: slower",
        "speed(-1)",
        ("left_square_bracket",),
        "half the speed",
        *("P", 5, "speed", "replay: faster"),
    ),
    Action("replay: faster", "speed(1)", ("right_square_bracket",), "twice the speed", "P"),
    Action(
        "replay: next mark",
        "next_mark",
        ("apostrophe",),
        "to the next mark, warning or error",
        "P",
        6,
        "mark",
    ),
    Action(
        "replay: next phase",
        "phase(1)",
        ("n",),
        "to where the next phase begins",
        *("P", 7, "phase", "replay: phase before"),
    ),
    Action("replay: phase before", "phase(-1)", ("N",), "to where the phase before begins", "P"),
    Action("replay: go to a time", "go_to_time", ("g",), "type a time: 90 or 1:30", "P", 9, "time"),
    Action(
        "topology: switch",
        "app.switch",
        ("t",),
        "another server for this load: one that is up, or a topology that is started for it",
        "LMQC",
        7,
        "topology",
        steering=True,
    ),
    Action(
        "screen: start",
        "app.show_start",
        ("0",),
        "what is up and what can be started; choosing there ends this session's load",
        "LMQCZ",
        steering=True,
    ),
    Action(
        "reference: choose",
        "reference",
        ("c",),
        "tell changes against the next topology; of two that are compared: swap them",
        "WC",
        6,
        "reference",
    ),
    Action("compare: choose A", "side('a')", ("a",), "list what can be the reference", "C", 2, "A"),
    Action("compare: choose B", "side('b')", ("b",), "list what can be compared with it", "C", 3, "B"),
    Action("stored runs", "runs", ("R",), "list runs/, to compare, or to play one", "CS", 4, "stored runs"),
    Action("doctor", "doctor", ("D",), "what rvtop doctor finds here, and where Ray's dashboard is", "SM"),
    Action("compare: phase", "part", ("n",), "the next phase that both have, then all", "C", 8, "phase"),
    Action(
        "compare: all the same",
        "force",
        ("exclamation_mark",),
        "compare two that did different work; again: refuse them",
        "C",
    ),
    Action("copy: command line", "copy_command", ("Y",), "copy the command that does the same", "C"),
    Action("screen: end", "app.show_end", ("E",), "how the session ended, and what to do next", "LMQC"),
    Action("end: do it", "do", ("enter",), "do the step at the cursor, or copy its command", "Z", 1, "do it"),
    Action("session: choose another", "again", ("enter",), "when a session is over: choose another one", "L"),
    Action(
        "leave", "quit", ("q",), "end the load and what rvtop started, write the results", "A", 16, "quit"
    ),
    Action(
        "leave at once",
        "app.interrupt",
        ("ctrl+c",),
        "leave with exit code 130; twice: without waiting",
        fixed=True,
    ),
)


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
