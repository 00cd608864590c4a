"""The table of screens that show a session: a new screen is one file beside this one and one line here.

The application binds the keys and feeds whichever screen is on top; the help lists keys and titles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.ui.action import SCREENS_FOOT, Action
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.kv import KvScreen
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.map import MapScreen
from rvtop.ui.screens.replay import ReplayScreen
from rvtop.ui.screens.requests import RequestsScreen
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.showdown import ShowdownScreen


@dataclass(frozen=True, slots=True)
class ScreenEntry:
    """One screen. ``key`` is Textual's name of the key that shows it, ``title`` one line for the help;
    ``in_foot``: the footer names it."""

    name: str
    key: str
    title: str
    screen: type[SessionScreen]
    in_foot: bool = True


#: The first one is shown at the start and stays below the others, so that it keeps its state.
SCREENS: tuple[ScreenEntry, ...] = (
    ScreenEntry("live", "1", "the live screen: load and latencies", LiveScreen),
    ScreenEntry("map", "2", "map: where requests wait, and the places of the batches", MapScreen),
    ScreenEntry("requests", "3", "requests: the slowest and the failed, where the TTFT went", RequestsScreen),
    ScreenEntry("compare", "4", "compare: two runs side by side, or now against before", CompareScreen),
    ScreenEntry("kv", "6", "KV map: what is in the engines' prefix caches", KvScreen, in_foot=False),
)
#: Those of a showdown; the others show the topology that runs.
SHOWDOWN_SCREENS: tuple[ScreenEntry, ...] = (
    ScreenEntry("showdown", "5", "showdown: the topologies side by side", ShowdownScreen),
    *SCREENS,
)

#: The same of a stored run.
REPLAY_SCREENS: tuple[ScreenEntry, ...] = (
    ScreenEntry("live", "1", "the live screen as it stood", ReplayScreen),
    *SCREENS[1:],
)


#: Where the session is no showdown, its key says how one is begun.
NO_SHOWDOWN = Action(
    "screen: showdown", "app.say_showdown", ("5",), "topologies one after another: rvtop showdown begins one"
)


def screen_keys(screens: Sequence[ScreenEntry]) -> tuple[Action, ...]:
    """The keys that show a screen; none for a single screen, which is always on top."""
    if len(screens) < 2:
        return ()
    showdown = any(entry.name == "showdown" for entry in screens)
    made = tuple(
        Action(
            f"screen: {entry.name}",
            f"app.show_screen('{entry.name}')",
            (entry.key,),
            entry.title.partition(": ")[2] or entry.title,  # the action's name has said which screen
            foot=SCREENS_FOOT + number if entry.in_foot else 0,
            label=entry.name,
        )
        for number, entry in enumerate(screens)
    )
    return made if showdown else (*made, NO_SHOWDOWN)
