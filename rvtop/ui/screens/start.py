"""The Start screen: what is up, what can be started, models, and what was there lately.

Each row stands for a command line, which is shown below the list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingsMap, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static
from textual.widgets.input import Selection

from rvtop.contract.handle import Choice, clean_url
from rvtop.contract.start import (
    LookAround,
    ModelRow,
    Offer,
    RecentRow,
    StartFacts,
    UpRow,
    command_line,
    kubernetes_line,
    model_options,
    replay_line,
    report_line,
)
from rvtop.ui.format import first_that_fits
from rvtop.ui.keep import copied_text, save_picture
from rvtop.ui.keymap import bindings
from rvtop.ui.looking import look
from rvtop.ui.screens.choose_side import ChooseSideScreen
from rvtop.ui.screens.doctor import show_doctor
from rvtop.ui.screens.filter import FilterScreen
from rvtop.ui.screens.text import TextScreen
from rvtop.ui.screens.topology_options import OptionsScreen
from rvtop.ui.shell import ScreenShell, shell_of
from rvtop.ui.sides import folder_of
from rvtop.ui.start_lines import Item, describe_item, head_line
from rvtop.ui.widgets.start_list import StartList

#: Seconds from one look around to the next.
LOOK_EACH_S = 5.0
_KEYS = (
    "↑↓ choose   enter go   space tick a model   o options   d describe   K Kubernetes   / filter   u URL   "
    "R runs   D doctor   y copy   : all   ? help   q quit",
    "↑↓ choose   enter go   space tick a model   o options   d describe   / filter   u URL   R runs   "
    "D doctor   y copy   : all   ? help   q quit",
    "↑↓ choose   enter go   space tick a model   o options   u URL   R runs   D doctor   : all   ? help"
    "   q quit",
    "↑↓ choose   enter go   space tick   u URL   y copy   ? help   q quit",
    "enter go   u URL   ? help   q quit",
    "? help   q quit",
)
_SESSION_RUNS = "a session runs: choosing another one ends its load   esc goes back to it"


class _Head(Widget):
    """The first line."""

    DEFAULT_CSS = """
    _Head { height: 1; background: $rv-background; }
    """
    facts = StartFacts()

    def render_line(self, y: int) -> Strip:
        styles = shell_of(self).rich_styles
        return head_line(self.facts, styles, self.size.width).strip(self.size.width, styles.base)


class StartScreen(Screen[None]):
    """Asks the app to connect to what was chosen; shows in one line why that failed.

    ``over_session``: it lies above a session that goes on until another one is chosen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("enter", "go", show=False),
        Binding("space", "tick", show=False),
        Binding("u", "url", show=False),
    ]

    def __init__(
        self,
        shell: ScreenShell,
        facts: StartFacts,
        look_around: LookAround,
        url: str = "",
        *,
        over_session: bool = False,
    ) -> None:
        super().__init__()
        everywhere = BindingsMap(bindings(shell.actions, "AS"))
        self._bindings = BindingsMap.merge([everywhere, self._bindings])
        self.shell = shell
        self._look_around = look_around
        self._facts, self._url = facts, url
        self.over_session = over_session
        self.busy = False
        self._arguments: dict[str, tuple[str, ...]] = {}  # of each topology, as they were typed

    def compose(self) -> ComposeResult:
        yield _Head()
        yield StartList(self._facts)
        with Horizontal(id="attach"):
            yield Static("── or a server's URL", markup=False)
            field = Input(self._url, placeholder="http://127.0.0.1:8000", select_on_focus=False)
            field.cursor_blink = False
            yield field
        yield Static("", id="command", markup=False)
        yield Static("", id="message", markup=False)
        yield Static("", id="keys", markup=False)

    def on_mount(self) -> None:
        self.list.focus() if _any_choosable(self._facts) else self.query_one(Input).focus()
        self._show_command()
        self.show_message("")
        self._look()
        self.set_interval(LOOK_EACH_S, self._look)

    def on_resize(self) -> None:
        self.query_one("#keys", Static).update(f" {first_that_fits(_KEYS, self.size.width - 1)}")

    @property
    def list(self) -> StartList:
        return self.query_one(StartList)

    # -- what is known -------------------------------------------------------------------------

    def _look(self) -> None:
        if self.is_current and not self.busy:
            look(self, self._look_around, self.take)

    def take(self, facts: StartFacts) -> None:
        """Shows what was found."""
        self.list.take(facts)
        head = self.query_one(_Head)
        if head.facts != facts:
            head.facts = facts
            head.refresh()
        self._show_command()

    # -- the lines below the list ----------------------------------------------------------------

    def show_message(self, text: str, *, calm: bool = False) -> None:
        """One line under the list."""
        if not text and self.list.filter:
            text, calm = f"listed: what holds “{self.list.filter}”   esc lists all", True
        elif not text and self.over_session:
            text, calm = _SESSION_RUNS, True
        message = self.query_one("#message", Static)
        message.set_class(calm, "calm")
        message.update(f" {text}" if calm or not text else f" ✗ {text}")

    def notify_briefly(self, text: str) -> None:
        """Shows one line, until another one takes its place."""
        self.show_message(text, calm=True)

    def connecting(self, choice: Choice) -> None:
        self.busy = True
        self.show_message(f"connecting to {choice.label} …   esc gives up", calm=True)

    def failed(self, why: str, *, over_session: bool) -> None:
        """It could not be connected to; ``over_session``: the session of before is there still."""
        self.busy, self.over_session = False, over_session
        self.show_message(why)

    @property
    def command(self) -> str:
        """The command line of what is under the cursor; empty where there is none."""
        if isinstance(self.focused, Input):
            try:
                return command_line(Choice(url=clean_url(self.focused.value)))
            except ValueError:
                return ""
        item = self.list.item
        if isinstance(item, RecentRow) and item.folder:
            return report_line(item.folder)
        choice = self._choice(item)
        return command_line(choice) if choice is not None else ""

    def _choice(self, item: Item | None) -> Choice | None:
        if isinstance(item, UpRow):
            return item.choice if item.url else None
        if isinstance(item, RecentRow):
            return Choice(url=item.url) if item.url else None
        if isinstance(item, Offer):
            facts = self.list.all_facts
            models = model_options(facts.models, self.list.ticked)
            return Choice(item.name, None, models, self._arguments.get(item.name, ()))
        return None

    def _show_command(self) -> None:
        command = self.command
        self.query_one("#command", Static).update(f" = {command}" if command else "")

    # -- choosing --------------------------------------------------------------------------------

    def action_move(self, step: int) -> None:
        if isinstance(self.focused, Input):
            if step < 0:
                self.list.focus()
        elif not self.list.move(step) and step > 0:
            self.query_one(Input).focus()

    def action_tick(self) -> None:
        if not isinstance(self.list.item, ModelRow):
            self.notify_briefly("space ticks a model; this is none")
        self.list.tick()

    def action_url(self) -> None:
        field = self.query_one(Input)
        field.focus()
        field.selection = Selection(0, len(field.value))  # so that another URL takes its place

    @on(StartList.Chosen)
    def action_go(self) -> None:
        item = self.list.item
        if self.busy or item is None:
            return
        if isinstance(item, ModelRow):
            self.list.tick()
        elif isinstance(item, RecentRow) and item.folder:
            self.notify_briefly(f"{self.command} prints its figures; y copies the line")
        elif isinstance(item, UpRow) and item.why:
            self.show_message(f"{item.name} can't be watched now: {item.why}")
        elif isinstance(item, Offer) and item.why:
            fix = f"; fix: {item.fix}" if item.fix else ""
            self.show_message(f"{item.name} cannot be started here: {item.why}{fix}")
        elif (choice := self._choice(item)) is not None:
            self.shell.choose(choice)

    @on(Input.Submitted)
    def attach(self, event: Input.Submitted) -> None:
        if self.busy:
            return
        try:
            url = clean_url(event.value)
        except ValueError as error:
            self.show_message(str(error))
            return
        self.shell.choose(Choice(url=url))

    @on(Input.Changed)
    @on(StartList.Pointed)
    def pointed(self) -> None:
        if not self.busy:
            self.show_message("")
        self._show_command()

    def on_descendant_focus(self) -> None:
        self._show_command()

    # -- what can be done anywhere ---------------------------------------------------------------

    def action_back(self) -> None:
        if self.busy:
            self.busy = False
            self.shell.give_up()
            self.show_message("")
        elif isinstance(self.focused, Input):
            self.list.focus()
        elif self.list.filter:
            self._filter("")
        elif self.over_session:
            self.dismiss()
        else:
            self.notify_briefly("q leaves")

    def action_copy(self) -> None:
        command = self.command
        if command:
            self._copy(command)
        else:
            self.notify_briefly("no command line stands for this row")

    def _copy(self, command: str) -> None:
        self.app.copy_to_clipboard(command)
        try:
            where = f" and to {copied_text(command)}"
        except OSError:
            where = ""
        self.notify_briefly(f"copied to the clipboard{where}: {command}")

    action_copy_command = action_copy  # the row is a command line

    def action_filter(self) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                self._filter(text)

        self.app.push_screen(FilterScreen(self.list.filter, "name, engine, model, address, folder"), typed)

    def _filter(self, text: str) -> None:
        self.list.show_only(text)
        self.show_message("")
        self._show_command()

    def action_options(self) -> None:
        """Asks for what the topology at the cursor is started with."""
        item = self.list.item
        if not isinstance(item, Offer):
            self.notify_briefly("o sets the options of a topology: choose one under start")
            return

        def typed(arguments: tuple[str, ...] | None) -> None:
            if arguments is not None:
                self._arguments[item.name] = arguments
                self._show_command()

        self.app.push_screen(OptionsScreen(item.name, self._arguments.get(item.name, ())), typed)

    def action_kubernetes(self) -> None:
        """Copies the line that deploys the topology at the cursor."""
        item = self.list.item
        choice = self._choice(item)
        if not isinstance(item, Offer) or choice is None:
            self.notify_briefly("K deploys a topology on Kubernetes: choose one under start")
        elif not item.kubernetes:
            offered = ", ".join(one.name for one in self._facts.offers if one.kubernetes)
            self.notify_briefly(f"no manifests are made for {item.name}; for Kubernetes there are {offered}")
        else:
            self._copy(kubernetes_line(choice))

    def action_describe(self) -> None:
        item = self.list.item
        if item is None:
            self.notify_briefly("nothing is listed")
        else:
            lines = describe_item(item, self.command)
            self.app.push_screen(TextScreen(item.name, lambda: lines))

    def action_events(self) -> None:
        self._of_session(self.shell.show_events)

    def action_log(self) -> None:
        self._of_session(lambda: self.notify_briefly("esc goes back to the session; l shows its log there"))

    def action_save(self) -> None:
        self._of_session(lambda: self.notify_briefly("esc goes back to the session; s saves it there"))

    def _of_session(self, do: Callable[[], None]) -> None:
        if self.over_session:
            do()
        else:
            self.notify_briefly("no session yet: enter begins the one at the cursor")

    def action_doctor(self) -> None:
        show_doctor(self)

    def action_runs(self) -> None:
        """Lists the stored runs; what plays the chosen one is copied."""

        def chosen(answer: tuple[str, str] | None) -> None:
            if answer is not None:
                self._copy(replay_line(folder_of(answer[1])))

        self.app.push_screen(ChooseSideScreen("", ()), chosen)

    def action_picture(self) -> None:
        try:
            path = save_picture(self.app.export_screenshot(title="rvtop"), None)
        except OSError as error:
            self.notify_briefly(f"no picture: {error.filename}: {error.strerror}")
        else:
            self.notify_briefly(f"picture: {path}")

    def action_help(self) -> None:
        self.shell.show_help(None, "AS")

    def action_palette(self) -> None:
        self.shell.show_palette("AS")

    async def action_quit(self) -> None:
        await self.app.run_action("quit")

    def restyle(self) -> None:
        """Draws all again, in the shell's styles of now."""
        self.list.refresh()
        self.query_one(_Head).refresh()


def _any_choosable(facts: StartFacts) -> bool:
    rows: list[UpRow | Offer] = [*facts.up, *facts.offers]
    return any(not row.why for row in rows)
