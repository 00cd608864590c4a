"""The errors of a call, as every request's are named (docs/grpc.md): a gRPC code is the HTTP status that it
stands for (google/rpc/code.proto), and what never reached a server is what it would be over HTTP."""

from __future__ import annotations

#: By the code's name.
STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 413,  # as our backends use it; Google's guide has none for 413
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# What gRPC's library says where no server did, by words of its text; the first that is found.
_LOST = (
    ("dns", ("DNS resolution failed", "Domain name not found")),
    ("refused", ("Connection refused", "No such file or directory")),
    ("timeout_connect", ("Timeout occurred", "timed out")),
    (
        "reset",
        (
            "Connection reset",
            "Socket closed",
            "Broken pipe",
            "recvmsg:",
            "GOAWAY",
            "Stream removed",
            "RST_STREAM",
            "end of TCP stream",
        ),
    ),
    ("client_limit", ("Too many open files", "Cannot assign requested address")),
    ("refused", ("failed to connect to all addresses",)),
)


def kind_of(code: str, text: str, *, begun: bool) -> str:
    """The kind of error of a call that ended with ``code`` (a name) and ``text``. ``begun``: a message had
    come, after which HTTP could only have told it in the stream."""
    if code in ("UNAVAILABLE", "INTERNAL", "UNKNOWN"):
        lost = next((kind for kind, words in _LOST if any(word in text for word in words)), None)
        if lost is not None:
            return "reset" if begun else lost
    if begun:
        return "stream_error"
    return f"http_{STATUS.get(code, 500)}"
