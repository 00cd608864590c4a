"""Joins the screen to sessions: opens one for a request, or lets the picker choose."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from rvtop.cli.config import settings_now, with_settings
from rvtop.contract.handle import Choice, ConnectFailed, Offer
from rvtop.results.recording import read_recording
from rvtop.session.client import RemoteSession
from rvtop.session.control_client import WatchedSession
from rvtop.session.replay import ReplaySession
from rvtop.session.request import Outcome, SessionRequest, attach_request, start_request
from rvtop.settings.recent import recent_targets, remember_target
from rvtop.target.probe import TargetError, choose_models, probe, shown
from rvtop.target.topologies import TOPOLOGIES, missing
from rvtop.ui.app import INTERRUPTED, run_app_async
from rvtop.ui.look import Look, look_of
from rvtop.ui.sharing import Sharing


def look_now() -> Look:
    """How the screen is to look, by settings and environment. Raises UserError before anything starts."""
    return look_of(settings_now(), os.environ)


def show(request: SessionRequest, *, yes: bool, sharing: Sharing) -> Outcome:
    """The dashboard on one session; returns how the session ended."""

    look = look_now()

    async def main() -> Outcome:
        session = await RemoteSession().start(request)
        if request.url is not None:
            remember_target(os.environ, shown(request.url))
        code = await run_app_async(session, yes=yes, look=look, sharing=sharing)
        return _outcome(session, code)

    return asyncio.run(main())


def show_watched(socket: Path, sharing: Sharing) -> int:
    """The dashboard on a session of another terminal, which outlives it; returns the exit code."""
    look = look_now()

    async def main() -> int:
        session = await WatchedSession(socket, readonly=sharing.readonly).start()
        return await run_app_async(session, yes=True, look=look, sharing=sharing)

    return asyncio.run(main())


def show_replay(folder: Path) -> int:
    """The dashboard on a stored run; returns the exit code. Raises UserError."""
    look, recording = look_now(), read_recording(folder)
    replay = ReplaySession(recording, str(folder))
    code = asyncio.run(run_app_async(replay=replay, look=look))
    return code if code == INTERRUPTED else 0  # how the run itself ended is told, not repeated


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
