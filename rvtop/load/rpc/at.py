"""Which target a URL is: HTTP, or gRPC, of which nothing is imported for any other."""

from __future__ import annotations

from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.net.place import GRPC


def endpoint_at(address: Address) -> Endpoint:
    """The Endpoint of an Address. Raises ValueError, OSError, UserError for one that can't be used."""
    if address.url.startswith(GRPC):
        from rvtop.load.rpc.endpoint import GrpcEndpoint

        return GrpcEndpoint(address)
    return Endpoint(address)
