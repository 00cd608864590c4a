"""``HOST:PORT``, as options have it."""

from __future__ import annotations

from urllib.parse import urlsplit

#: How the URL of a gRPC target begins.
GRPC = "grpc://"


def host_and_port(text: str) -> tuple[str, int | None] | None:
    """Host (without the brackets of IPv6) and port, None where none is named; None for what is no place."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, port) if host is not None and parts.netloc == text and "@" not in text else None
