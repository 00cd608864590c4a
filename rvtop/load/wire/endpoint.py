"""Where requests go: scheme, address, path, TLS and headers. Resolved once, so no request waits for DNS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rvtop.load.wire.calls import CallOwner, Calls
from rvtop.load.wire.tls import Handshake, Tickets, Tls
from rvtop.net.transport import AUTHORIZATION, NEXT_ADDRESS_S, Transport, names_of, ssl_context

_P = TypeVar("_P", bound=asyncio.Protocol)


@dataclass(frozen=True)
class Address:
    """A target as it is handed to the workers. ``key_env`` names the variable that holds the API key:
    the key itself is in no argument, message or file of ours."""

    url: str  # http://host:port, and the prefix before /v1 if the server has one
    path: str = "/v1/chat/completions"
    key_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may be secret
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False
    unix_socket: str | None = None
    key_header: str = AUTHORIZATION

    @property
    def transport(self) -> Transport:
        """How it is reached, without the where."""
        return Transport(
            self.headers,
            self.key_header,
            self.ca_file,
            self.cert_file,
            self.key_file,
            self.insecure,
            self.unix_socket,
        )


def address_of(url: str, path: str, key_env: str | None, transport: Transport) -> Address:
    """The Address at ``url`` that is reached by ``transport``."""
    return Address(
        url=url,
        path=path,
        key_env=key_env,
        headers=transport.headers,
        ca_file=transport.ca_file,
        cert_file=transport.cert_file,
        key_file=transport.key_file,
        insecure=transport.insecure,
        unix_socket=transport.unix_socket,
        key_header=transport.key_header,
    )


class Endpoint:
    """An Address, resolved and ready to be connected to."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {address.url}")
        self._address = address
        self._host, self._sent_host = names_of(parts)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = None
        if parts.scheme == "https":
            self._ssl = ssl_context(
                address.ca_file, address.cert_file, address.key_file, insecure=address.insecure
            )
        self._tickets = Tickets()
        self._resolved: list[tuple[str, int]] = []
        host = f"[{self._sent_host}]" if ":" in self._sent_host else self._sent_host
        default = 443 if self._ssl else 80
        fields = {
            "host": ("Host", host if self._port == default else f"{host}:{self._port}"),
            "content-type": ("Content-Type", "application/json"),
            "accept": ("Accept", "text/event-stream"),
            "accept-encoding": ("Accept-Encoding", "identity"),
            "user-agent": ("User-Agent", "rvtop"),
        }
        secret = os.environ.get(address.key_env, "") if address.key_env else ""
        more = {**address.transport.key_headers(secret), **address.headers}
        fields |= {name.lower(): (name, value) for name, value in more.items()}
        lines = [f"POST {parts.path.rstrip('/')}{address.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.values()]
        self._head = "\r\n".join(lines).encode("latin-1") + b"\r\nX-Request-Id: "

    def request(self, body: bytes, request_id: str, more: bytes = b"") -> bytes:
        """The bytes of one request. ``more``: further headers, each behind a line end."""
        return b"%s%s%s\r\nContent-Length: %d\r\n\r\n%s" % (
            self._head,
            request_id.encode(),
            more,
            len(body),
            body,
        )

    def calls(self, owner: CallOwner) -> Calls | None:
        """What carries requests there in place of connections; None: connections do."""
        return None

    async def resolve(self) -> None:
        """Looks the host up. Raises socket.gaierror."""
        if self._address.unix_socket:
            return
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        self._resolved = list(dict.fromkeys(_place(info[4]) for info in found))

    async def open(self, factory: Callable[[Tls | None], _P]) -> _P:
        """A new connection, which ``factory`` makes once it stands, with TLS too if it is https. Of several
        addresses the first that answers is kept for the next ones; while one does not, the others are tried
        beside it.

        Raises OSError (also ssl.SSLError) as the last address failed.
        """
        if self._address.unix_socket:
            path = self._address.unix_socket
            create = asyncio.get_running_loop().create_unix_connection
            return (await self._secured(factory, lambda first: create(first, path)))[1]
        if not self._resolved:
            await self.resolve()
        if len(self._resolved) == 1:
            return (await self._open_one(factory, self._resolved[0]))[1]
        return await self._race(factory)

    async def _open_one(
        self, factory: Callable[[Tls | None], _P], address: tuple[str, int]
    ) -> tuple[asyncio.Transport, _P]:
        create = asyncio.get_running_loop().create_connection
        transport, made = await self._secured(factory, lambda first: create(first, *address))
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return transport, made

    async def _secured(
        self,
        factory: Callable[[Tls | None], _P],
        connect: Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.Transport, Any]]],
    ) -> tuple[asyncio.Transport, _P]:
        """Connects, and shakes hands if it is https."""
        if self._ssl is None:
            return await connect(lambda: factory(None))
        tls = Tls(self._ssl, self._sent_host, self._tickets.session())
        handshake = Handshake(tls, factory)
        transport, _ = await connect(lambda: handshake)
        try:
            made = await handshake.made
            self._tickets.stands(tls)
            return transport, made
        except asyncio.CancelledError:
            transport.abort()
            raise

    async def _race(self, factory: Callable[[Tls | None], _P]) -> _P:
        loop = asyncio.get_running_loop()
        rest = list(self._resolved)
        tried: dict[asyncio.Task[tuple[asyncio.Transport, _P]], tuple[str, int]] = {}
        failure: OSError | None = None
        try:
            while rest or tried:
                if rest:
                    address = rest.pop(0)
                    tried[loop.create_task(self._open_one(factory, address))] = address
                done, _ = await asyncio.wait(
                    tried, timeout=NEXT_ADDRESS_S if rest else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    address = tried.pop(task)
                    try:
                        _, made = task.result()
                    except OSError as error:
                        failure = error
                        continue
                    if self._resolved[0] != address:
                        self._resolved.remove(address)
                        self._resolved.insert(0, address)
                    return made
        finally:
            for task in tried:  # one that has come second, or was not needed any more
                task.cancel()
                task.add_done_callback(_abort)
        assert failure is not None
        raise failure


def _place(sockaddr: tuple[object, ...]) -> tuple[str, int]:
    """Address and port; the zone of an IPv6 address stands behind it."""
    zone = f"%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] else ""
    return f"{sockaddr[0]}{zone}", int(str(sockaddr[1]))


def _abort(task: asyncio.Task[tuple[asyncio.Transport, _P]]) -> None:
    """Closes a connection that is not needed."""
    with contextlib.suppress(OSError, asyncio.CancelledError):
        task.result()[0].abort()
