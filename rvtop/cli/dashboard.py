"""Joins the screen to sessions: opens one for a request, or lets the Start screen choose."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rvtop.cli.config import settings_now, with_settings
from rvtop.contract.handle import Choice, Connect, ConnectFailed, Second
from rvtop.contract.start import StartFacts
from rvtop.errors import UserError
from rvtop.session.client import RemoteSession
from rvtop.session.control_client import WatchedSession
from rvtop.session.request import Outcome, SessionRequest, attach_request, start_request
from rvtop.settings.recent import recent_targets, remember_target
from rvtop.system.stdio import say_error
from rvtop.target.preflight import check_backend
from rvtop.target.probe import choose_models, probe, shown
from rvtop.ui.app import INTERRUPTED, RvtopApp
from rvtop.ui.look import Look, look_of
from rvtop.ui.run import run_app_async
from rvtop.ui.screens.table import SHOWDOWN_SCREENS
from rvtop.ui.sharing import Sharing

if TYPE_CHECKING:
    from rvtop.study.showdown import ShowdownRun


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
        chosen = [session]
        # What is shared (a socket, a web view) is this session, so there is no other to go to.
        connect = None if sharing.joined or sharing.web_url else _remembering(chosen)
        app = RvtopApp(
            session,
            connect,
            facts=_first_facts,
            look_around=_look_around,
            yes=yes,
            look=look,
            sharing=sharing,
        )
        code = await run_app_async(app)
        return _outcome(chosen[-1], code)

    return asyncio.run(main())


def show_watched(socket: Path, sharing: Sharing) -> int:
    """The dashboard on a session of another terminal, which outlives it; returns the exit code."""
    look = look_now()

    async def main() -> int:
        session = await WatchedSession(socket, readonly=sharing.readonly).start()
        app = RvtopApp(
            session, facts=_first_facts, look_around=_look_around, yes=True, look=look, sharing=sharing
        )
        return await run_app_async(app)

    return asyncio.run(main())


def show_replay(folder: Path, speed: float = 1.0) -> int:
    """The dashboard on a stored run; returns the exit code. Raises UserError."""
    from rvtop.results.recording import read_recording
    from rvtop.session.replay import ReplaySession

    look, recording = look_now(), read_recording(folder)
    replay = ReplaySession(recording, str(folder))
    replay.speed = speed
    code = asyncio.run(run_app_async(RvtopApp(replay=replay, look=look)))
    for note in replay.notes:  # the screen shows it for some seconds only
        say_error(note)
    return code if code == INTERRUPTED else 0  # how the run itself ended is told, not repeated


def show_showdown(run: ShowdownRun, check: Callable[[SessionRequest], None]) -> int:
    """The dashboard on a showdown, from its first topology to where it is left; returns the exit code.
    Raises UserError where its results could not be written."""
    from rvtop.study.live import LiveShowdown

    look = look_now()

    async def opened(request: SessionRequest) -> RemoteSession:
        return await RemoteSession().start(with_settings(request))

    async def main() -> int:
        showdown = LiveShowdown(run, opened, check).start()
        app = RvtopApp(showdown, yes=True, look=look, screens=SHOWDOWN_SCREENS, showdown=showdown)
        code = await run_app_async(app)
        if showdown.error is not None:
            raise showdown.error
        return code if code == INTERRUPTED else run.exit_code

    return asyncio.run(main())


def pick(*, yes: bool, first: Choice | None = None) -> tuple[Outcome, str]:
    """The Start screen, then the dashboard on what was chosen there (``first``: on that at once); returns how
    the last session ended, and its run folder. Raises UserError where ``first`` can't be."""
    chosen: list[RemoteSession] = []
    look = look_now()
    last = next(iter(recent_targets(os.environ)), "")

    connect = _remembering(chosen)

    async def main() -> tuple[Outcome, str]:
        try:
            handle = None if first is None else await connect(first)
        except ConnectFailed as error:
            raise UserError(str(error)) from error
        app = RvtopApp(
            handle, connect, facts=_first_facts, look_around=_look_around, url=last, yes=yes, look=look
        )
        code = await run_app_async(app)
        if not chosen:
            return Outcome(code), ""
        asked = chosen[-1].request
        return _outcome(chosen[-1], code), str(asked.out) if asked is not None else ""

    return asyncio.run(main())


def _remembering(chosen: list[RemoteSession]) -> Connect:
    """Connects to what is chosen on the Start screen, and adds the session to ``chosen``."""

    async def connect(choice: Choice) -> RemoteSession:
        if choice.second is not None:
            session = await _connect_pairs(choice, choice.second, chosen[-1].request)
        else:
            session = await _connect(choice)
        chosen.append(session)
        return session

    return connect


def _first_facts() -> StartFacts:
    from rvtop.cli.start_facts import first_facts  # not before the first frame of a session

    return first_facts()


def _look_around() -> StartFacts:
    from rvtop.cli.start_facts import look_around

    return look_around()


def request_of(choice: Choice, url: str = "") -> SessionRequest:
    """The session that a choice means; ``url``: where its server was reached. Raises UserError."""
    if choice.topology is not None:
        return with_settings(start_request(choice.topology, models=choice.models, arguments=choice.arguments))
    return with_settings(attach_request(url or choice.url or "", choice.models, (), None, None))


async def _connect(choice: Choice) -> RemoteSession:
    """Starts the session that was chosen. Raises ConnectFailed where a check finds that it can't run."""
    try:
        if choice.topology is not None:
            request = request_of(choice)
            assert request.backend is not None
            await asyncio.to_thread(check_backend, request.backend)
        else:
            info = await probe(choice.url or "")
            choose_models(info, choice.models)
            request = request_of(choice, info.url)
            remember_target(os.environ, shown(info.url))
    except UserError as error:
        raise ConnectFailed(str(error)) from error
    return await RemoteSession().start(request)


async def _connect_pairs(choice: Choice, second: Second, before: SessionRequest | None) -> RemoteSession:
    """Starts live pairs in place of the session ``before``. Raises ConnectFailed where the second server
    does not answer, or the workload can't be sent to both."""
    from rvtop.session.pair_plan import pairs_now

    assert before is not None
    try:
        request = pairs_now(before, choice.url or "", second, choice.models)
        same = second.url == request.url
        await probe(second.url, request.transport if same else replace(request.transport, unix_socket=None))
    except UserError as error:
        raise ConnectFailed(str(error)) from error
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
