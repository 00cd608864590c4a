"""The first screen: start a topology here, or attach to a server that is up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from rvtop.contract.handle import Choice, Offer, clean_url
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, fixed
from rvtop.ui.shell import shell_of


class Offers(Widget, can_focus=True):
    """The topologies, a line each, with a cursor."""

    DEFAULT_CSS = """
    Offers { height: auto; background: $rv-background; }
    """
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("enter,space", "pick", show=False),
    ]

    class Picked(Message):
        def __init__(self, offer: Offer) -> None:
            super().__init__()
            self.offer = offer

    def __init__(self, offers: Sequence[Offer]) -> None:
        super().__init__()
        self.offers = tuple(offers)
        self.cursor = next((i for i, offer in enumerate(self.offers) if offer.available), 0)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return max(1, len(self.offers))

    def render_line(self, y: int) -> Strip:
        styles = shell_of(self).rich_styles
        if y >= len(self.offers):
            return Strip.blank(self.size.width, styles.base)
        offer, width = self.offers[y], self.size.width
        here = y == self.cursor and self.has_focus
        name, about, blank = (
            (styles.cursor, styles.cursor_quiet, styles.cursor_quiet)
            if here
            else (styles.server_bold, styles.base, styles.base)
        )
        if not offer.available:
            name, about = (styles.cursor_quiet, styles.cursor_quiet) if here else (styles.stale, styles.stale)
        size = max(len(o.name) for o in self.offers)
        line = Line(" ▸ " if here else "   ", name).put(fixed(offer.name, size), name).put("   ", blank)
        text = offer.about if offer.available else offer.why or "cannot be started here"
        line.put(clip(text, max(1, width - line.width - 1)), about)
        return line.strip(width, blank)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.refresh()

    def action_move(self, step: int) -> None:
        there = self.cursor + step
        if there >= len(self.offers):
            self.screen.focus_next()
        elif there >= 0:
            self.cursor = there
            self.refresh()

    def action_pick(self) -> None:
        if self.offers:
            self.post_message(self.Picked(self.offers[self.cursor]))

    def on_click(self, event: events.Click) -> None:
        if event.y < len(self.offers):
            again = event.y == self.cursor and event.chain > 1
            self.cursor = event.y
            self.refresh()
            if again:
                self.action_pick()


class PickerScreen(Screen[None]):
    """Asks the app to connect to what was chosen; shows in one line why that failed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", show=False),
        Binding("escape", "back", show=False),
        Binding("up", "up", show=False),
        Binding("down", "down", show=False),
    ]

    def __init__(self, offers: Sequence[Offer], url: str) -> None:
        super().__init__()
        self._offers, self._url = offers, url
        self.busy = False

    def compose(self) -> ComposeResult:
        with Vertical(id="column"):
            yield Static("[b $rv-command]rvtop[/]   load and watch an LLM server", id="title")
            with Vertical(classes="frame") as start:
                start.border_title = "start a topology on this machine"
                start.border_subtitle = "enter starts it"
                yield Offers(self._offers)
            with Vertical(classes="frame") as attach:
                attach.border_title = "or attach to a server that is up"
                attach.border_subtitle = "enter attaches; nothing is sent until you set a rate"
                field = Input(self._url, placeholder="http://127.0.0.1:8000", select_on_focus=False)
                field.cursor_blink = False
                yield field
            yield Static("", id="message", markup=False)
            yield Static(
                "[b $rv-command]↑↓[/] choose   [b $rv-command]enter[/] go   "
                "[b $rv-command]tab[/] next box   [b $rv-command]esc[/] back to the list   "
                "[b $rv-command]q[/] quit",
                id="keys",
            )

    def on_mount(self) -> None:
        (self.query_one(Offers) if any(o.available for o in self._offers) else self.query_one(Input)).focus()

    def show_message(self, text: str, *, calm: bool = False) -> None:
        """One line under the boxes."""
        message = self.query_one("#message", Static)
        message.set_class(calm, "calm")
        message.update(text if calm or not text else f"✗ {text}")

    def connecting(self, choice: Choice) -> None:
        self.busy = True
        self.show_message(f"connecting to {choice.label} …   esc gives up", calm=True)

    def failed(self, why: str) -> None:
        self.busy = False
        self.show_message(why)

    @on(Offers.Picked)
    def start(self, event: Offers.Picked) -> None:
        offer = event.offer
        if not offer.available:
            self.show_message(
                f"{offer.name} cannot be started here" + (f": {offer.why}" if offer.why else "")
            )
        elif not self.busy:
            shell_of(self).choose(Choice(topology=offer.name))

    @on(Input.Submitted)
    def attach(self, event: Input.Submitted) -> None:
        if self.busy:
            return
        try:
            url = clean_url(event.value)
        except ValueError as error:
            self.show_message(str(error))
            return
        shell_of(self).choose(Choice(url=url))

    @on(Input.Changed)
    def clear_fault(self) -> None:
        if not self.busy:
            self.show_message("")

    async def action_quit(self) -> None:
        await self.app.run_action("quit")

    def action_back(self) -> None:
        if self.busy:
            self.busy = False
            shell_of(self).give_up()
            self.show_message("")
        else:
            self.query_one(Offers).focus()

    def action_up(self) -> None:
        if isinstance(self.focused, Input):
            self.query_one(Offers).focus()

    def action_down(self) -> None:
        if not isinstance(self.focused, Input):
            self.query_one(Input).focus()
