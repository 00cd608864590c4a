"""A gRPC target: its dialect, what every call carries, and the calls that are made there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar
from urllib.parse import urlsplit

from rvtop.errors import UserError
from rvtop.load.rpc.dialects import Dialect, dialect_of
from rvtop.load.rpc.reader import BREAK
from rvtop.load.wire.calls import CallOwner, Calls
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.tls import Tls

_P = TypeVar("_P", bound=asyncio.Protocol)


class GrpcEndpoint(Endpoint):
    """An Address whose URL is ``grpc://host:port``, and behind it perhaps the service to call. gRPC's library
    is loaded by :meth:`resolve`, in a thread; it looks the host up by itself."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        if not parts.hostname or parts.port is None:
            raise ValueError(f"not a grpc URL: {address.url}; it should look like grpc://host:50051")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.place = f"{host}:{parts.port}"
        if address.unix_socket:
            self.place = f"unix:{address.unix_socket}"
        self._service = parts.path.strip("/")
        self._dialect: Dialect | None = None
        secret = os.environ.get(address.key_env, "") if address.key_env else ""
        more = {**address.transport.key_headers(secret), **address.headers}
        self.metadata = tuple((name.lower(), value) for name, value in more.items())
        for name, value in self.metadata:
            if not value.isascii():
                raise ValueError(f"header {name}: gRPC carries ASCII only")

    @property
    def tls(self) -> bool:
        """Never."""
        return False

    @property
    def dialect(self) -> Dialect:
        """What is said there. Raises UserError, ImportError where that can't be."""
        if self._dialect is None:
            self._dialect = dialect_of(self._service)
        return self._dialect

    def request(self, body: bytes, request_id: str, more: bytes = b"") -> bytes:
        """Metadata, as HTTP would have it, and the message; none behind why it can't be made, which fails the
        request when it is sent."""
        try:
            message = self.dialect.request(body, request_id)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}".encode() + BREAK
        return b"X-Request-Id: %b%b%b%b" % (request_id.encode(), more, BREAK, message)

    async def resolve(self) -> None:
        """Loads what calls need. Raises UserError where it is not installed."""
        await asyncio.to_thread(self._load)
        from rvtop.load.rpc import calls

        calls.ready()

    def _load(self) -> None:
        try:
            import_module("rvtop.load.rpc.calls")
            self.dialect  # noqa: B018 - it is made
        except ImportError as error:
            raise UserError(f"grpc:// needs gRPC ({error}); pip install 'rvtop[grpc]'") from None

    async def open(self, factory: Callable[[Tls | None], _P]) -> _P:
        """Raises OSError: calls need no connection of ours."""
        raise OSError("a grpc target has no connections")

    def calls(self, owner: CallOwner) -> Calls:
        """The calls of a pool."""
        from rvtop.load.rpc.calls import GrpcCalls

        return GrpcCalls(self.place, self.metadata, self.dialect, owner)
