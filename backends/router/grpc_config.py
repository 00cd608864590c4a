"""The part of HAProxy's configuration that forwards gRPC, as HTTP/2 from end to end. Pure.

Calls for tokens and vectors go to the engine of their model with the fewest calls; health, reflection and the
list of models are answered on the head. With several models HAProxy reads ``model`` out of the message, where
it is the first field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backends.api import arrival
from backends.router.haproxy_config import (
    MAX_ROUTED_BODY_BYTES,
    TOKEN_ENV,
    Pool,
    Server,
    quote,
    server_line,
)
from backends.settings.rpc import GrpcPlace

SERVICE = "/rvtop.v1.Generation/"
_OPEN = "/grpc.health.v1.Health/"
#: Calls at once on one connection; HTTP/2's usual 100 would hold up those of one client beyond it.
MOST_STREAMS = 10_000
# gRPC's numbers for the codes of backends/rpc/codes.py.
_INVALID_ARGUMENT, _INTERNAL, _UNAVAILABLE, _UNAUTHENTICATED, _DEADLINE = 3, 13, 14, 16, 4
_UNSHAPED = {  # HAProxy's own answers -> gRPC's
    400: (_INVALID_ARGUMENT, "Not a request that the router understands."),
    408: (_DEADLINE, "The request did not arrive in time."),
    500: (_INTERNAL, "The router failed."),
    502: (_UNAVAILABLE, "The engine ended before it answered."),
    503: (_UNAVAILABLE, "No engine of this model is ready."),
    504: (_DEADLINE, "The engine did not answer in time."),
}


@dataclass(frozen=True)
class GrpcFront:
    """Where the router takes gRPC calls. ``headers`` (by model) are set on what is forwarded."""

    place: GrpcPlace
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def blocks(
    front: GrpcFront, pools: Sequence[Pool], control_path: str, api_key: str | None
) -> tuple[tuple[str, ...], ...]:
    """Whole sections. ``pools`` hold the slots of the engines' gRPC ports, in the order of the models."""
    several = len(pools) > 1
    asked = "if generate !too_long"
    named = "var(txn.model)"
    frontend = [
        "frontend grpc",
        f"    bind fd@{front.place.listener.fileno()} proto h2",
        *_shapes(),
        f'    http-request set-header {arrival.HEADER} "%[date(0,us)] {arrival.machine()}"',
        f"    acl generate path {SERVICE}Generate",
        f"    acl for_engine path {SERVICE}Generate {SERVICE}Embed",
        *_key_rules(api_key),
        # HAProxy gives an answer without a body no content type of its own.
        "    acl told_in_head res.hdr(grpc-status) -m found",
        "    http-after-response set-header Content-Type application/grpc if told_in_head",
    ]
    if several:
        frontend += [
            f"    acl too_long req.body_size gt {MAX_ROUTED_BODY_BYTES}",
            f"    http-request wait-for-body time 60s {asked}",
            f"    http-request set-var(txn.model) req.body,ungrpc(1) {asked}",
        ]
    frontend.append("    use_backend grpc_control unless for_engine")
    if several:
        first = pools[0].name
        frontend += [
            "    use_backend grpc_control if too_long",
            f"    use_backend {first} if !generate",
            f"    use_backend {first} if !{{ {named} -m found }}",
            f"    use_backend {first} if {{ {named} -m len 0 }}",
            *(f"    use_backend {p.name} if {{ {named} -m str -- {quote(p.model)} }}" for p in pools),
        ]
    unknown = next((pool.name for pool in pools if pool.adapters), "grpc_control")
    frontend.append(f"    default_backend {unknown if several else pools[0].name}")
    control = ("backend grpc_control", f"    server head unix@{control_path} proto h2")
    tuned = ("global", f"    tune.h2.fe.max-concurrent-streams {MOST_STREAMS}")
    return (tuned, tuple(frontend), control, *(_pool(pool, front.headers) for pool in pools))


def pools_of(models: Sequence[tuple[str, Sequence[str]]], adapters: str = "") -> list[Pool]:
    """(model, names of its engines' gRPC slots) -> their pools. ``adapters``: the model that is asked for by
    the names of adapters too."""
    return [
        Pool(f"g{number}", model, tuple(Server(name) for name in slots), adapters=model == adapters)
        for number, (model, slots) in enumerate(models)
    ]


def _pool(pool: Pool, headers: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    return (
        f"backend {pool.name}",
        "    balance leastconn",
        *_shapes(),
        f'    http-request set-header Authorization "Bearer ${{{TOKEN_ENV}}}"',
        *(
            f"    http-request set-header {name} {quote(value)}"
            for name, value in headers.get(pool.model, {}).items()
        ),
        "    default-server proto h2 check inter 1s fastinter 250ms downinter 500ms fall 3 rise 1",
        *(server_line(server) for server in pool.servers),
    )


def _shapes() -> list[str]:
    return [f"    http-error status {status} {_answer(*told)}" for status, told in _UNSHAPED.items()]


def _key_rules(api_key: str | None) -> list[str]:
    if api_key is None:
        return []
    digest = hashlib.sha256(api_key.encode()).hexdigest().upper()
    refusal = _answer(_UNAUTHENTICATED, "Missing or wrong API key: send authorization: Bearer KEY.")
    return [
        f"    acl key_ok http_auth_bearer,sha2(256),hex -m str {digest}",
        f"    acl open_path path_beg {_OPEN}",
        f"    http-request return status 401 {refusal} unless open_path or key_ok",
    ]


def _answer(code: int, message: str) -> str:
    """A call's failure, which is told in headers alone, as the arguments of ``http-error`` and ``return``."""
    return f"file /dev/null hdr grpc-status {code} hdr grpc-message {quote(message)}"
