"""The session that an agent watches or drives: one that somebody started, or its own, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.errors import UserError
from rvtop.session.client import RemoteSession
from rvtop.session.control_client import ControlClient
from rvtop.session.request import SessionRequest

#: Who sends, in ``commands.jsonl``.
NAME = "mcp"
_OPEN_LIMIT_S = 60.0
_LOOK_S = 0.05


class Driver:
    """``socket``: of a session that is up; None: there is one once ``start`` was called."""

    def __init__(self, socket: Path | None) -> None:
        self._joined = socket
        self._folder = Path(tempfile.mkdtemp(prefix="rvtop-mcp-"))
        self._socket = self._folder / "control.sock"
        self._session: RemoteSession | None = None
        self._starting = asyncio.Lock()  # an agent may call start twice at once

    @property
    def own(self) -> bool:
        """Whether the session is one that this server started, and runs."""
        return self._session is not None and self._session.outcome is None

    async def start(self, request: SessionRequest) -> Snapshot:
        """Starts a session of its own and returns its first picture: one of a load that has begun, where the
        target is a server that is up. Raises UserError: one is up already, or it ended before that."""
        if self._joined is not None:
            raise UserError("start: this server watches the session of its --socket; it starts none")
        async with self._starting:
            session = await self._start(request)
        last = session.snapshot()
        if session.outcome is None and last is not None and last.state in OVER:  # it stays until it is left
            await session.close()
        if session.outcome is not None and session.outcome.summary is None:
            raise UserError(f"start: {session.outcome.message}")
        return await self.snapshot()

    async def _start(self, request: SessionRequest) -> RemoteSession:
        """Returns once its socket is there and its load has begun, or it has ended. Raises UserError."""
        if self.own:
            raise UserError("start: a load is up already; stop it first")
        if self._session is not None:  # it has an outcome; its process may still be on its way out
            await self._session.close()
        self._socket.unlink(missing_ok=True)
        self._session = session = await RemoteSession().start(replace(request, control=self._socket))
        try:
            async with asyncio.timeout(_OPEN_LIMIT_S):
                while session.outcome is None and not (self._socket.exists() and _begun(session, request)):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            if self._socket.exists():  # it may prepare prompts for long
                raise UserError(
                    f"start: the load has not begun after {_OPEN_LIMIT_S:g} s; `watch` tells what it does, "
                    "`stop` ends it"
                ) from None
            await session.close()
            raise UserError(
                f"start: the session did not open its socket within {_OPEN_LIMIT_S:g} s; it was ended"
            ) from None
        return session

    async def command(self, name: str, fields: Mapping[str, Any]) -> str:
        """Sends one command; what the session says. Raises UserError: it refuses, or is gone."""
        self._check_up(name)
        return await asyncio.to_thread(self._ask, name, fields)

    async def snapshot(self) -> Snapshot:
        """The picture now; of a session of its own that ended, the last one. Raises UserError."""
        if self._session is not None and not self.own:
            return _last_of(self._session)
        self._check_up("watch")
        try:
            return await asyncio.to_thread(self._look)
        except UserError:
            if self._session is None:
                raise
            await asyncio.sleep(_LOOK_S)  # it ends just now
            return _last_of(self._session)

    async def ended(self, limit_s: float) -> None:
        """Returns once a session of its own is over and its process has gone, or after ``limit_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self.own:
                    assert self._session is not None
                    last = self._session.snapshot()
                    if last is not None and last.state in OVER:  # it stays until it is left
                        await self._session.close()
                    await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Ends a session of its own, with its results; one that was joined goes on."""
        if self._session is not None:
            await self._session.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check_up(self, what: str) -> None:
        if self._joined is None and not self.own:
            raise UserError(f"{what}: no session is up; start one first (start_load, run_scenario)")

    def _look(self) -> Snapshot:
        with ControlClient(self._joined or self._socket) as client:
            _say_name(client)
            client.send("snapshot", {})
            return client.snapshot()[1]

    def _ask(self, name: str, fields: Mapping[str, Any]) -> str:
        with ControlClient(self._joined or self._socket) as client:
            _say_name(client)
            client.send(name, fields)
            return str(client.answer(name)[1]["ok"])


def _begun(session: RemoteSession, request: SessionRequest) -> bool:
    """Whether there is no more to wait for: a phase runs, so that its rate can be set, or all is over. A
    topology that starts is not waited for: that takes minutes, and `watch` shows its steps."""
    last = session.snapshot()
    return request.backend is not None or (
        last is not None and (last.phase is not None or last.state in OVER)
    )


def _last_of(session: RemoteSession) -> Snapshot:
    """The last picture of a session that has ended. Raises UserError."""
    last = session.snapshot()
    if last is None:
        raise UserError("watch: the session ended before there was a picture; start one anew")
    return last


def _say_name(client: ControlClient) -> None:
    client.send("name", {"by": NAME})
    client.answer()
