"""gRPC's status codes for the errors of the API, and what a call's metadata says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc

from backends.errors import ApiError, internal

#: By HTTP status, as Google's API guide maps them (google/rpc/code.proto); 413 is there none.
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
#: A header: beyond 8 KB (a character may be 12 bytes there) a client is told RESOURCE_EXHAUSTED instead.
MOST_DETAILS = 500
TRACE_KEYS = ("traceparent", "tracestate")

Metadata = Sequence[tuple[str, str | bytes]]


def code_of(error: ApiError) -> grpc.StatusCode:
    """The code by which a client is told of ``error``."""
    return CODES.get(error.status, grpc.StatusCode.UNKNOWN)


def details_of(error: ApiError) -> str:
    """Its text: of a long one, which may hold what a client sent, the beginning."""
    text = error.message
    return text if len(text) <= MOST_DETAILS else f"{text[: MOST_DETAILS - 1]}…"


def hidden() -> ApiError:
    """What a client is told of a fault of ours."""
    return internal("Internal server error; the server's log has the reason.")


def texts(metadata: Metadata | None) -> dict[str, str]:
    """The entries of a call's metadata that are text; of several of one name the last."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def trace_of(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """By what the client's trace goes on, if it has one."""
    return {key: metadata[key] for key in TRACE_KEYS if key in metadata} or None


def key_given(metadata: Mapping[str, str]) -> str:
    """The bearer token of a call; empty without one."""
    scheme, _, token = metadata.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""
