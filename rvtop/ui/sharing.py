"""How a screen shares its session with others: what it may do, whose session it is, who else sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rvtop.ui.action import WEB_VIEW, Action

#: The answer to whatever would steer the session from a screen that may not.
READ_ONLY = "read-only: this screen only watches"
#: What a key of the load says in a stored run.
STORED_RUN = "a stored run: there is no load to steer"


@dataclass(frozen=True, slots=True)
class Sharing:
    """``readonly``: nothing is sent to the session. ``joined``: the session is another terminal's and goes on
    when this screen is left. ``web_url``: where browsers see it, token included; empty where there is no web
    view."""

    readonly: bool = False
    joined: bool = False
    web_url: str = ""

    @property
    def web_place(self) -> str:
        """The web view's address without its token, which may be shown."""
        return self.web_url.partition("?")[0]

    def actions(self, table: Iterable[Action]) -> tuple[Action, ...]:
        """The table of actions as this screen has it: where it only watches, what steers says so and is not
        in the footer."""
        return tuple(self._here(one) for one in table if self.web_url or one.action != WEB_VIEW)

    def _here(self, action: Action) -> Action:
        if self.readonly and action.steers:
            return replace(action, action="app.read_only", foot=0)
        if self.joined and action.action == "quit":
            return replace(action, about="leave this screen; the session goes on", label="leave")
        return action


#: One's own session, which nobody else sees.
ALONE = Sharing()
