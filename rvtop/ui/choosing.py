"""What the application does when a session is chosen: it connects, and the session of before ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from textual.app import App
from textual.screen import Screen
from textual.worker import Worker

from rvtop.contract.command import Pause
from rvtop.contract.handle import Choice, Connect, ConnectFailed, SessionHandle
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import FirstFacts, LookAround
from rvtop.ui.screens.second import SecondScreen
from rvtop.ui.screens.session_screen import SessionScreen
from rvtop.ui.screens.start import StartScreen
from rvtop.ui.screens.stopping import StoppingScreen
from rvtop.ui.screens.switch import SwitchScreen
from rvtop.ui.second_lines import choice_of, keeps, why_not
from rvtop.ui.shell import ScreenShell


class ChoosingShell(ScreenShell, Protocol):
    """What :class:`Choosing` asks of the application."""

    handle: SessionHandle | None

    async def close_handle(self) -> None:
        """Ends the session, once; waits until it has ended."""
        ...

    def first_screen(self) -> SessionScreen:
        """A new screen of the session, the one that is shown first."""
        ...

    def say(self, text: str) -> None:
        """Shows one line for some seconds."""
        ...

    async def action_show_screen(self, name: str) -> None:
        """Shows a screen of the session."""
        ...


class Choosing:
    """The Start screen of ``app``, and what is chosen there. Without ``connect`` nothing can be chosen."""

    def __init__(
        self,
        app: App[int],
        shell: ChoosingShell,
        connect: Connect | None,
        facts: FirstFacts,
        look_around: LookAround,
        url: str,
    ) -> None:
        self._app, self._shell = app, shell
        self._connect = connect
        self._facts, self._look_around, self._url = facts, look_around, url
        self._connecting: Worker[None] | None = None
        self.below: list[SessionHandle] = []  # sessions that hold servers of ours for the one that is shown

    @property
    def possible(self) -> bool:
        """Whether another session can be chosen."""
        return self._connect is not None

    @property
    def screen(self) -> StartScreen | None:
        """The Start screen, also while another one covers it."""
        return next((s for s in self._app.screen_stack if isinstance(s, StartScreen)), None)

    def new_screen(self, *, over_session: bool = False) -> StartScreen:
        """A Start screen."""
        return StartScreen(
            self._shell, self._facts(), self._look_around, self._url, over_session=over_session
        )

    def switch_screen(self, snapshot: Snapshot) -> SwitchScreen:
        """What asks for another server for the load of ``snapshot``."""
        return SwitchScreen(snapshot, self._facts(), self._look_around)

    # -- live pairs ------------------------------------------------------------------------------

    def pair(self, s: Snapshot | None, *, anew: bool) -> None:
        """Begins live pairs of the server of ``s`` and one that is asked for. ``anew``: of the two that are
        paired now, else of the server and itself."""
        connect = self._connect
        why = "" if s is None else why_not(s)
        if connect is None and not why:
            why = "this screen shows one session; rvtop ab A B"
        if s is None or connect is None or why:
            self._shell.say(f"no live pairs: {why}" if why else "")
            return

        def chosen(url: str | None) -> None:
            if url is not None:
                begins = self._begin_pairs(connect, choice_of(s, url), keep=keeps(s))
                self._connecting = self._app.run_worker(begins, exclusive=True)

        if anew:
            chosen(s.pairs.b if s.pairs is not None else s.target.url)
        else:
            self._app.push_screen(SecondScreen(s, self._facts(), self._look_around), chosen)

    async def _begin_pairs(self, connect: Connect, choice: Choice, *, keep: bool) -> None:
        """``keep``: the session holds a server of ours, so it stays, paused, until the pairs are left."""
        self._shell.say("live pairs: asks the second server …")
        try:
            handle = await connect(choice)
        except (ConnectFailed, OSError) as error:
            self._shell.say(f"no live pairs: {error}")
            return
        before = self._shell.handle
        if keep and before is not None:
            before.send(Pause())
            self.below.append(before)
            self._shell.handle = handle
        else:
            below, self.below = self.below, []  # these stay
            try:
                await self._take_over(handle)
            finally:
                self.below = below
        for side in "ab":
            self._shell.sides.choose(side, "")
        with self._app.batch_update():
            await self._replace_all(self._shell.first_screen)
        await self._shell.action_show_screen("compare")

    def choose(self, choice: Choice) -> None:
        """Begins the session that was chosen."""
        screen = self.screen
        if screen is not None and self._connect is not None:
            screen.connecting(choice)
            self._connecting = self._app.run_worker(self._begin(self._connect, choice), exclusive=True)

    def give_up(self) -> None:
        """Stops connecting."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None

    async def _begin(self, connect: Connect, choice: Choice) -> None:
        if choice.topology is not None:
            await self._end_session()  # what starts needs its GPUs and cores
        try:
            handle = await connect(choice)
        except (ConnectFailed, OSError) as error:
            if (screen := self.screen) is not None:
                screen.failed(str(error) or type(error).__name__, over_session=self._shell.handle is not None)
            return
        await self._take_over(handle)
        with self._app.batch_update():
            await self._replace_all(self._shell.first_screen)

    async def _take_over(self, handle: SessionHandle) -> None:
        """Ends the session; ``handle`` is the one from now on."""
        try:
            await self._end_session()
        except asyncio.CancelledError:  # rvtop is left meanwhile: this one is to be closed too
            self._shell.handle = handle
            raise
        self._shell.handle = handle

    async def _end_session(self) -> None:
        """Ends the session below the Start screen, if there is one."""
        if self._shell.handle is None:
            return
        stopping = StoppingScreen(None)
        await self._app.push_screen(stopping)
        await self._shell.close_handle()
        while stopping in self._app.screen_stack:  # with what was opened above it meanwhile
            await self._app.pop_screen()

    async def _replace_all(self, new: Callable[[], Screen[Any]]) -> None:
        """Shows a ``new`` screen in place of those of a session that has ended, of Start, and of whatever
        dialog was opened above them meanwhile."""
        stack = self._app.screen_stack
        lowest = next(n for n, screen in enumerate(stack) if isinstance(screen, SessionScreen | StartScreen))
        for _ in stack[lowest + 1 :]:
            await self._app.pop_screen()
        await self._app.switch_screen(new())

    # -- from a session to the Start screen ------------------------------------------------------

    async def show(self) -> None:
        """Lays the Start screen above the session, which goes on."""
        await self._app.push_screen(self.new_screen(over_session=True))

    def again(self) -> None:
        """From a session that is over back to the Start screen."""
        self._app.run_worker(self._again(), exclusive=True)

    async def _again(self) -> None:
        await self._end_session()
        with self._app.batch_update():
            await self._replace_all(self.new_screen)
