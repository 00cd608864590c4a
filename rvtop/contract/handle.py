"""What the screen needs of a session: its snapshots, commands to it, and a function that connects to one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from rvtop.contract.command import Command
from rvtop.contract.snapshot import Snapshot


class SessionHandle(Protocol):
    """A running session. ``snapshot`` and ``send`` return at once, whatever the session is doing."""

    def snapshot(self) -> Snapshot | None:
        """The newest picture, or None before the first."""
        ...

    def send(self, command: Command) -> None:
        """Hands a command over; its effect shows in a later snapshot."""
        ...

    async def close(self) -> None:
        """Ends the session and all it started; the results are written when it returns."""
        ...


@dataclass(frozen=True, slots=True)
class Second:
    """A second server that gets the same requests at the same times: live pairs, at ``rps`` to each; None: at
    the rate of the pairs before."""

    url: str
    rps: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What the Start screen returns: exactly one of a topology to start and a URL to attach to. ``models``:
    ``name=source`` of a topology, names of a server; none: those that it serves by default. ``arguments``:
    further ones of ``python -m backends``, of a topology. ``second``: live pairs of the server at ``url``,
    with the workload of the session before."""

    topology: str | None = None
    url: str | None = None
    models: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    second: Second | None = None

    @property
    def label(self) -> str:
        return self.topology or self.url or ""


class ConnectFailed(Exception):
    """The choice could not be made into a session. Its text is one line: what, where, how to fix it."""


Connect = Callable[[Choice], Awaitable[SessionHandle]]


def clean_url(text: str) -> str:
    """The base URL that ``text`` means: scheme added when it is missing, trailing slash dropped.

    Raises ValueError with one line for the person who typed it.
    """
    url = text.strip()
    if not url:
        raise ValueError("type the server's URL, for example http://127.0.0.1:8000")
    if any(c.isspace() for c in url):
        raise ValueError(f"a URL has no spaces: {url!r}")
    if "://" not in url:
        url = "http://" + url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {url}: {error}") from None
    if parts.scheme not in ("http", "https", "grpc"):
        raise ValueError(f"only http://, https:// and grpc:// are known, not {parts.scheme}://")
    if not parts.hostname:
        raise ValueError(f"no host in {url}: write it as http://HOST:PORT")
    if port == 0:
        raise ValueError("port 0 cannot be reached: give the port that the server listens on")
    return url.rstrip("/")
