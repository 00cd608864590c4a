"""The box that `t` opens on the Compare screen: a second server, which gets the same requests."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from rvtop.contract.start import StartFacts
from rvtop.ui.screens.server_list import ServerList, ServerRows
from rvtop.ui.second_lines import seconds_of, what_begins
from rvtop.ui.switch_lines import SwitchChoice


class SecondScreen(ServerList[str]):
    """Returns the URL of a server that is up, or None when it was left."""

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "live pairs: a second server"
            box.border_subtitle = "enter   esc"
            yield ServerRows(self)
            yield Static("", id="begins", classes="quiet", markup=False)
            yield Static("", id="wrong", classes="wrong", markup=False)

    def found(self, facts: StartFacts) -> list[SwitchChoice]:
        return seconds_of(self._snapshot, facts)

    def consequence(self, number: int) -> str:
        why = self.choices[number].why
        return f"✗ {why}" if why else "as B"

    def say(self) -> None:
        if self.choices:
            text = "\n".join(what_begins(self._snapshot))
        elif not self._facts.complete:
            text = "looking for servers …"
        else:
            text = "no other server is up\nrvtop up TOPOLOGY starts one, rvtop ab A URL takes any"
        self.query_one("#begins", Static).update(text)

    def go(self, choice: SwitchChoice) -> None:
        self.dismiss(choice.url)
