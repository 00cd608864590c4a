"""Joins the screen to sessions: opens one for a request, or lets the picker choose."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from rvtop.cli.config import settings_now, with_settings
from rvtop.contract.handle import Choice, ConnectFailed, Offer
from rvtop.session.client import RemoteSession
from rvtop.session.control_client import WatchedSession
from rvtop.session.request import Outcome, SessionRequest, attach_request, start_request
from rvtop.settings.recent import recent_targets, remember_target
from rvtop.study.live import LiveShowdown
from rvtop.study.showdown import INTERRUPTED, ShowdownRun
from rvtop.target.probe import TargetError, choose_models, probe, shown
from rvtop.target.topologies import TOPOLOGIES, missing
from rvtop.ui.app import run_app_async
from rvtop.ui.look import Look, look_of
from rvtop.ui.screens.table import SHOWDOWN_SCREENS


def look_now() -> Look:
    """How the screen is to look, by settings and environment. Raises UserError before anything starts."""
    return look_of(settings_now(), os.environ)


def show(request: SessionRequest, *, yes: bool) -> Outcome:
    """The dashboard on one session; returns how the session ended."""

    look = look_now()

    async def main() -> Outcome:
        session = await RemoteSession().start(request)
        if request.url is not None:
            remember_target(os.environ, shown(request.url))
        code = await run_app_async(session, yes=yes, look=look)
        return _outcome(session, code)

    return asyncio.run(main())


def show_watched(socket: Path) -> int:
    """The dashboard on a session of another terminal, which outlives it; returns the exit code."""

    async def main() -> int:
        return await run_app_async(await WatchedSession(socket).start(), yes=True)

    return asyncio.run(main())


def show_showdown(run: ShowdownRun, check: Callable[[SessionRequest], None]) -> int:
    """The dashboard on a showdown, from its first topology to where it is left; returns the exit code.
    Raises UserError where its results could not be written."""
    look = look_now()

    async def opened(request: SessionRequest) -> RemoteSession:
        return await RemoteSession().start(with_settings(request))

    async def main() -> int:
        showdown = LiveShowdown(run, opened, check).start()
        code = await run_app_async(showdown, yes=True, look=look, screens=SHOWDOWN_SCREENS, showdown=showdown)
        if showdown.error is not None:
            raise showdown.error
        return code if code == INTERRUPTED else run.exit_code

    return asyncio.run(main())


def pick(*, yes: bool) -> Outcome:
    """The picker, then the dashboard on what was chosen; returns how the last session ended."""
    chosen: list[RemoteSession] = []
    look = look_now()
    last = next(iter(recent_targets(os.environ)), "")

    async def connect(choice: Choice) -> RemoteSession:
        session = await _connect(choice)
        chosen.append(session)
        return session

    async def main() -> Outcome:
        code = await run_app_async(connect=connect, offers=offers(), url=last, yes=yes, look=look)
        return _outcome(chosen[-1], code) if chosen else Outcome(code)

    return asyncio.run(main())


def offers() -> list[Offer]:
    """The topologies, and of those that can't be started here why."""
    found = {name: missing(name) for name in TOPOLOGIES}
    return [Offer(name, TOPOLOGIES[name].about, not why, why) for name, why in found.items()]


async def _connect(choice: Choice) -> RemoteSession:
    if choice.topology is not None:
        return await RemoteSession().start(with_settings(start_request(choice.topology)))
    assert choice.url is not None
    try:
        info = await probe(choice.url)
        models = choose_models(info, ())
    except TargetError as error:
        raise ConnectFailed(str(error)) from error
    remember_target(os.environ, shown(info.url))
    request = with_settings(attach_request(info.url, models, (), None, None))
    return await RemoteSession().start(request)


def _outcome(session: RemoteSession, code: int) -> Outcome:
    """The session's own outcome; without one (it was left without waiting) the screen's exit code."""
    if session.outcome is None:
        out = last.out_dir if (last := session.snapshot()) is not None else ""
        text = f"left without waiting; the session goes on to write its results to {out}"
        return Outcome(code, text if out else "")
    if session.outcome.exit_code == 0 and code:
        return Outcome(code, session.outcome.message, session.outcome.summary)
    return session.outcome
