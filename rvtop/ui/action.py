"""What can be done, as one entry of the table in ``keys``."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.ui.key_names import shown_key

#: What holds on each kind of screen: live, map, requests, KV map, events, a showdown's, a stored run's,
#: start.
SCREEN_PLACES = ("A*L", "A*M", "A*Q", "A*K", "AE", "A*C", "AZ", "AW", "AP", "AS")
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
    foot_on: str = ""  # the places of the screens with it in the footer, where not all that it holds on
    steering: bool = False  # steers the session, also where it does not hold wherever a load runs

    @property
    def steers(self) -> bool:
        """Whether it changes the load, the target, the SLO or what is recorded."""
        return self.steering or "*" in self.where

    def holds(self, places: str) -> bool:
        """Whether it can be done on a screen of these places."""
        return any(place in places for place in self.where)

    def in_foot(self, places: str) -> bool:
        """Whether the footer of a screen of these places names it."""
        shown = not self.foot_on or any(place in places for place in self.foot_on)
        return bool(self.foot and self.keys) and self.holds(places) and shown

    def meets(self, other: Action) -> bool:
        """Whether there is a screen on which both can be done, so that they can't share a key."""
        return any(self.holds(places) and other.holds(places) for places in SCREEN_PLACES)

    @property
    def show(self) -> str:
        """All its keys, as people write them."""
        return "  ".join(shown_key(key) for key in self.keys)
