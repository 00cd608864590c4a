"""Who may see the web view: a token once, a cookie from then on, and only by the names that this machine has.

The token is in the address that is printed once. A page of somebody else in the same browser must not get in:
the cookie is SameSite=Strict, a websocket must come from our own page (Origin), and a name that somebody
points at this machine (DNS rebinding) is refused (Host).
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Gate:
    """The secrets of one web view, which listens at ``host``."""

    host: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def is_token(self, given: str) -> bool:
        return _equal(given, self.token)

    def is_cookie(self, given: str) -> bool:
        return _equal(given, self.cookie)

    def is_host(self, header: str | None) -> bool:
        """Whether a Host header names this machine: an address of its kind, or a name that we know."""
        name = _name_of(f"//{header}") if header else None
        if not name:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or (
                not is_loopback(self.host) and name in (self.host.lower(), socket.gethostname().lower())
            )
        return address.is_loopback or not is_loopback(self.host)

    def is_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a websocket was asked for by our own page."""
        origin = urlsplit(headers.get("Origin", ""))
        return origin.scheme in ("http", "https") and origin.netloc == headers.get("Host")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name_of(url: str) -> str | None:
    try:
        urlsplit(url).port  # noqa: B018 - reading it is the check
        return urlsplit(url).hostname
    except ValueError:
        return None


def _equal(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())
