"""The application: polls the session, feeds the screen on top, and closes the session when it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from rvtop.contract.command import Command, Record, Retarget
from rvtop.contract.handle import Choice, Connect, SessionHandle
from rvtop.contract.replay import Replay
from rvtop.contract.snapshot import OVER
from rvtop.contract.start import FirstFacts, LookAround, StartFacts
from rvtop.ui.action import Action
from rvtop.ui.choosing import Choosing
from rvtop.ui.ghost import GhostKeeper
from rvtop.ui.glyphs import AsciiGlyphs
from rvtop.ui.keymap import with_keymap
from rvtop.ui.keys import ACTIONS
from rvtop.ui.look import Look
from rvtop.ui.past import Past
from rvtop.ui.pending_rate import PendingRate
from rvtop.ui.polling import Polling
from rvtop.ui.rate_memory import Rates
from rvtop.ui.saying_app import SayingApp
from rvtop.ui.screens.choose_side import ChooseSideScreen
from rvtop.ui.screens.compare import CompareScreen
from rvtop.ui.screens.end import EndScreen
from rvtop.ui.screens.events import EventsScreen
from rvtop.ui.screens.help import HelpScreen, PanelHelpScreen
from rvtop.ui.screens.leave import Answer, LeaveScreen, why_ask
from rvtop.ui.screens.live import LiveScreen
from rvtop.ui.screens.palette import PaletteScreen
from rvtop.ui.screens.recording_name import RecordingNameScreen
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.screens.stopping import StoppingScreen
from rvtop.ui.screens.table import REPLAY_SCREENS, SCREENS, ScreenEntry, screen_keys
from rvtop.ui.sharing import ALONE, Sharing
from rvtop.ui.shell import ScreenShell, ShowdownControls
from rvtop.ui.sides import Sides
from rvtop.ui.theme import Styles
from rvtop.ui.themes import styles_for
from rvtop.ui.widgets.panel import Panel

INTERRUPTED = 130
#: Exit codes by the session's last state; any other state is 0.
EXIT_CODES = {"lost": 3, "failed": 4, "crashed": 5}


class RvtopApp(SayingApp):
    """Shows ``handle``'s session, or the Start screen when there is none yet.

    ``connect`` makes what is chosen there into a session; it raises ConnectFailed (or OSError) with one
    line when it cannot. ``facts`` tells what is known at once, ``look_around`` finds all of it. ``yes``
    skips the question before the first load on a server that is not ours. ``replay`` is a stored run to
    show in place of a session. ``screens`` are those that show it, the first one at the start.
    ``exit_code`` holds what the process should end with once the app has run. Raises ValueError without a
    session and without ``connect``.
    """

    TITLE = "rvtop"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+q", "nothing", show=False, priority=True),  # flow control of terminals; q leaves
        Binding("ctrl+z", "why_not_stop", show=False, priority=True),
    ]
    # Read once here, and not at each of the screens when it is first shown.
    CSS_PATH: ClassVar = ["screens/live.tcss", "screens/start.tcss", "screens/dialog.tcss"]

    def __init__(
        self,
        handle: SessionHandle | None = None,
        connect: Connect | None = None,
        *,
        facts: FirstFacts = StartFacts,
        look_around: LookAround | None = None,
        url: str = "",
        yes: bool = False,
        clock: Callable[[], float] = time.monotonic,
        styles: Styles | None = None,
        look: Look | None = None,
        screens: Sequence[ScreenEntry] | None = None,
        replay: Replay | None = None,
        sharing: Sharing = ALONE,
        showdown: ShowdownControls | None = None,
    ) -> None:
        handle = handle or replay
        if handle is None and connect is None:
            raise ValueError("the screen needs a session, or a function that connects to one")
        self.look = look or Look(styles=styles or styles_for("auto", os.environ))
        super().__init__(self.look.styles)
        self.ascii = self.look.ascii
        if self.ascii:
            self._filters.append(AsciiGlyphs())
        self.last_used: list[str] = []
        self.showdown = showdown
        self.rates, self.ghosts, self.past, self.sides = Rates(), GhostKeeper(), Past(), Sides()
        self.clock = clock
        self.pending_rate = PendingRate(clock)  # of all screens: another one goes on from it
        self.handle = handle
        self.exit_code = 0
        self.choosing = Choosing(self, self, connect, facts, look_around or facts, url)
        self.may_load = yes
        self.can_choose_again = connect is not None
        self.replay = replay
        self._entries = tuple(screens or (SCREENS if replay is None else REPLAY_SCREENS))
        self._screen_keys = screen_keys(self._entries)
        self._ending: asyncio.Task[None] | None = None
        self._left_now = False
        self._polling = Polling(self, self, self._show_end_card, motion=self.look.motion)
        self.sharing = sharing
        self.actions = sharing.actions(with_keymap(self.look.keymap, (*ACTIONS, *self._screen_keys)))
        for key in self._screen_keys:
            self.bind(",".join(key.keys), key.action, description=key.about, show=False)

    def first_screen(self) -> SessionScreen:
        """A new screen of the session, the one that is shown first; nothing is remembered of one before."""
        self.rates, self.ghosts, self.past = Rates(), GhostKeeper(), Past()
        self.pending_rate = PendingRate(self.clock)
        self._polling.new_session()
        return self._entries[0].screen(self)

    @property
    def session_screen(self) -> SessionScreen | None:
        """The topmost screen that shows the session, also while a dialog covers it."""
        return next((s for s in reversed(self.screen_stack) if isinstance(s, SessionScreen)), None)

    @property
    def live(self) -> LiveScreen | None:
        """The live screen, also while a dialog covers it."""
        return next((s for s in self.screen_stack if isinstance(s, LiveScreen)), None)

    async def on_mount(self) -> None:
        screen = self.first_screen() if self.handle is not None else self.choosing.new_screen()
        await self.push_screen(screen)
        self._polling.begin()
        self.set_interval(1.0, self.reload_theme)
        if self.sharing.web_url:
            self.say(f"web view: {self.sharing.web_place}; its whole address: palette, web view")

    # -- the session -------------------------------------------------------------------------

    def poll(self) -> None:
        """Feeds the newest snapshot to the session screen on top, unless it shows that one already."""
        self._polling.look()

    def _show_end_card(self) -> None:
        """A session that this screen saw run is over."""
        if self.replay is None and self.showdown is None:
            self.push_screen(EndScreen(self))

    def send(self, command: Command) -> None:
        """Hands a command to the session."""
        if self.sharing.readonly:
            self.action_read_only()
        elif self.handle is not None and self._ending is None:
            self.handle.send(command)
            self._polling.look_soon()

    # -- screens -----------------------------------------------------------------------------

    def show_help(self, topic: str | None, places: str) -> None:
        """Opens the help of the panel of ``topic`` beside it, or all keys, those of ``places`` first."""
        screen = self.session_screen
        panels = screen.query(Panel) if screen is not None and topic else ()
        panel = next((one for one in panels if topic == one.TOPIC and one.region.area), None)
        if screen is None or panel is None:
            self.push_screen(HelpScreen(self.actions, places))
            return

        def then(what: str | None) -> None:
            if what == "all":
                self.show_help(None, places)
            elif what == "next":
                screen.focus_next(Panel)
                screen.action_help()

        self.push_screen(PanelHelpScreen(panel), then)

    def show_events(self) -> None:
        """Opens the list of all events above the screen that is there."""
        self.push_screen(EventsScreen(self))

    def show_palette(self, places: str) -> None:
        """Opens the palette; what is chosen there is done on the screen below it."""
        screen = self.screen
        offered = [one for one in self.actions if one.holds(places) and one.name != "palette"]

        def chosen(action: Action | None) -> None:
            if action is not None:
                self.last_used[:] = [action.name, *(name for name in self.last_used if name != action.name)]
                self.run_worker(screen.run_action(action.action))

        self.push_screen(PaletteScreen(offered, self.last_used), chosen)

    # -- notices and keys that do nothing ---------------------------------------------------

    def say(self, text: str) -> None:
        screen = self.choosing.screen or self.session_screen
        if screen is not None:
            screen.notify_briefly(text)

    async def action_show_screen(self, name: str) -> None:
        """Shows a screen of the table; does nothing while a dialog or the Start screen is open."""
        entry = next(entry for entry in self._entries if entry.name == name)
        if isinstance(self.screen, StartScreen):
            if not self.screen.over_session:
                self.say("no session yet: enter begins the one at the cursor")
                return
            await self.pop_screen()
        if not isinstance(self.screen, SessionScreen) or isinstance(self.screen, entry.screen):
            return
        await self._back_to_first()
        if not isinstance(self.screen, entry.screen):
            await self.push_screen(entry.screen(self))

    async def show_instant(self, t_s: float) -> None:
        """Shows the second of ``t_s`` of the session on the live screen."""
        await self.action_show_screen("live")
        if (live := self.live) is not None and live is self.screen:
            live.action_go_to(t_s)

    def show_runs(self) -> None:
        """Lists the stored runs; the chosen one is compared."""
        screen = self.session_screen
        s = screen.newest if screen is not None else None
        if s is None:
            return

        async def chosen(answer: tuple[str, str] | None) -> None:
            if answer is not None:
                await self.action_show_screen("compare")
                if isinstance(self.screen, CompareScreen):
                    self.screen.take(answer)

        has_a, _ = self.sides.keys(s, self.ghosts.ghost)
        self.push_screen(ChooseSideScreen("b" if has_a else "a", ()), chosen)

    async def action_show_end(self) -> None:
        """The end card of a session that is over."""
        screen = self.session_screen
        s = screen.newest if screen is not None else None
        if s is None or s.state not in OVER:
            self.say("the session has not ended")
        elif isinstance(self.screen, SessionScreen) and not isinstance(self.screen, EndScreen):
            await self._back_to_first()
            await self.push_screen(EndScreen(self))

    async def _back_to_first(self) -> None:
        """Removes the session screens above the first one."""
        while isinstance(self.screen, SessionScreen) and not isinstance(self.screen, self._entries[0].screen):
            await self.pop_screen()

    # -- choosing ----------------------------------------------------------------------------

    def choose(self, choice: Choice) -> None:
        """Begins the session that was chosen."""
        self.choosing.choose(choice)

    def give_up(self) -> None:
        """Stops connecting."""
        self.choosing.give_up()

    def choose_again(self) -> None:
        """From a session that is over back to the Start screen."""
        self.choosing.again()

    async def action_show_start(self) -> None:
        """Lists what else there is; the session goes on until another one is chosen."""
        if isinstance(self.screen, StartScreen):
            over = self.screen.over_session
            self.say("this is Start; " + ("esc goes back" if over else "enter begins the row at the cursor"))
        elif not self.choosing.possible:
            self.say("this screen shows one session; q leaves, rvtop alone lists all")
        elif isinstance(self.screen, SessionScreen):
            await self.choosing.show()

    def action_switch(self) -> None:
        """Asks for another server for the load that runs."""
        screen = self.session_screen
        s = screen.newest if screen is not None else None
        if s is None or not isinstance(self.screen, SessionScreen):
            return
        if s.state not in ("running", "watching", "paused", "draining"):
            self.say("there is no load to take to another server")
        elif s.switch is not None and not s.switch.waits:
            self.say(f"the load is on its way to {s.switch.to} already")
        else:
            self.push_screen(self.choosing.switch_screen(s), self._switch_to)

    def action_pair(self, anew: bool = False) -> None:
        """Live pairs of this server and a second one."""
        if isinstance(screen := self.screen, SessionScreen):
            self.choosing.pair(screen.newest, anew=anew)

    def _switch_to(self, command: Retarget | None) -> None:
        if command is not None:
            self.send(command)

    def name_recording(self, recorded_s: float, then: Callable[[], None]) -> None:
        """Asks for the file of the recording that goes on, ends it, and goes on with ``then``."""

        def named(file: str | None) -> None:
            if file is not None:
                self.send(Record(on=False, file=file))
                then()

        self.push_screen(RecordingNameScreen(recorded_s), named)

    # -- leaving -----------------------------------------------------------------------------

    async def close_handle(self) -> None:
        """Ends the session, once; waits until it has ended."""
        handle = self.handle
        if self._left_now:
            return
        if self._ending is None:
            if handle is None:
                return
            self._ending = asyncio.create_task(self._end_all(handle))
        # Shielded: leaving without waiting must not cancel the session's clean-up.
        await asyncio.shield(self._ending)
        self.handle = self._ending = None

    async def _end_all(self, handle: SessionHandle) -> None:
        """Ends the session, then those that hold servers for it."""
        async with contextlib.AsyncExitStack() as stack:
            for below in self.choosing.below:
                stack.push_async_callback(below.close)
            self.choosing.below.clear()
            await handle.close()

    async def action_quit(self) -> None:
        """Leaves; asks first about a scenario that has not ended and would end with this screen."""
        screen = self.session_screen
        s = screen.newest if screen is not None else None
        ends = self.handle is not None and not self.sharing.joined and not (self.replay or self.showdown)
        why = why_ask(s) if ends else ""
        if s is None or not why:
            self.leave(0)
            return

        def answered(answer: Answer | None) -> None:
            if answer == "save":
                self.name_recording(s.recording_s or 0.0, lambda: self.leave(0))
            elif answer == "leave":
                self.leave(0)

        ends_too = (s.target.topology or "") if s.target.owned else ""
        unnamed = s.recording_unnamed and not self.is_web
        self.push_screen(LeaveScreen(why, ends_too, unnamed=unnamed), answered)

    def action_interrupt(self) -> None:
        """Ctrl-C: leaves; pressed again, without waiting for the session to end."""
        if any(isinstance(screen, StoppingScreen) for screen in self.screen_stack):
            self._left_now = True
            self.exit_code = INTERRUPTED
            self.exit(self.exit_code)
        else:
            self.leave(INTERRUPTED)

    def leave(self, code: int) -> None:
        """Shows that it is stopping, ends the session, then exits. ``code`` 0: as the session ended."""
        if any(isinstance(screen, StoppingScreen) for screen in self.screen_stack):
            return
        self.give_up()
        screen = self.session_screen
        snapshot = screen.newest if screen is not None else None
        self.exit_code = code or (EXIT_CODES.get(snapshot.state, 0) if snapshot else 0)
        if self.handle is None or self.sharing.joined:  # which is closed at once
            self.exit(self.exit_code)
            return
        self.push_screen(StoppingScreen(snapshot.out_dir if snapshot else None))
        self.run_worker(self._close_and_exit(), exclusive=True)

    async def _close_and_exit(self) -> None:
        await self.close_handle()
        self.exit(self.exit_code)


if TYPE_CHECKING:
    _APP_IS_A_SHELL: type[ScreenShell] = RvtopApp  # mypy checks the protocol here
