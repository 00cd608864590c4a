"""HAProxy's configuration as text. Pure.

HAProxy forwards bytes at C speed and never looks at a token: completions go to the engine of their model with
the fewest connections, all else to the control endpoint on the head. Engines are fixed slots, whose address
and state change at run time. Secrets are in no file: the bearer of the engines is read from the environment,
and of the API key there is only a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from backends.api import arrival
from backends.api.control import ACTIONS, CONTROL_PATHS
from backends.api.defaults import SET_PATH
from backends.api.request import EMBEDDINGS, PATHS
from backends.errors import ApiError, unauthorized, unavailable

TOKEN_ENV = "RVTOP_RUN_TOKEN"
# With several models HAProxy reads `model` from the body, which must fit into its buffer.
MAX_ROUTED_BODY_BYTES = 2**20
_HEADERS_BYTES = 64 * 2**10
OPEN_PATH = "/health"

_UNSHAPED = {  # HAProxy's own answers -> OpenAI's shape
    400: ApiError(400, "Not an HTTP request that the router understands."),
    408: ApiError(408, "The request did not arrive in time.", type="RequestTimeout"),
    500: ApiError(500, "The router failed.", type="InternalServerError"),
    502: ApiError(502, "The engine ended before it answered.", type="BadGatewayError"),
    503: unavailable("No engine of this model is ready."),
    504: ApiError(504, "The engine did not answer in time.", type="GatewayTimeoutError"),
}

_FOREIGN = {  # Ray Serve's own answers -> OpenAI's shape
    404: _UNSHAPED[503],  # the application is not there (any more)
    429: ApiError(
        429, "The queue of this model is full; try again later.", type="TooManyRequestsError", retry_after=1
    ),
    500: ApiError(500, "The engine of this request died.", type="InternalServerError"),
    503: _UNSHAPED[503],
}


# Where an engine answers: host and port, or the path of a Unix socket.
Address = tuple[str, int] | str


@dataclass(frozen=True)
class Server:
    """An engine's slot. ``address`` None: not there (yet). ``draining``: it gets no new request. HAProxy can
    give a slot another port while it runs, but no other Unix socket: an engine that is to answer at one has
    the same ``socket`` for ever."""

    name: str
    address: Address | None = None
    socket: str | None = None
    draining: bool = False


@dataclass(frozen=True)
class Pool:
    """The engines of one model. ``name`` is HAProxy's, ``model`` what requests say. ``prefix`` goes before
    the path of what is forwarded; servers are up while ``health_path`` answers 200. Engines are asked for
    completions only, or, with ``all_paths``, for all but what the head answers. ``adapters``: requests for a
    name that is no model's go there, where a folder says whether it is an adapter's."""

    name: str
    model: str
    servers: tuple[Server, ...]
    prefix: str = ""
    health_path: str = "/health"
    all_paths: bool = False
    adapters: bool = False


@dataclass(frozen=True)
class Further:
    """Lines of the frontend beside its own: ``rules`` behind those that read the body, ``routes`` before
    those by model; and whole sections."""

    rules: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    blocks: tuple[tuple[str, ...], ...] = ()


def config(
    pools: Sequence[Pool],
    *,
    listener_fd: int,
    control_path: str,
    admin_path: str,
    api_key: str | None,
    threads: int,
    further: Further = Further(),  # frozen
) -> str:
    """The configuration. Pools in the order of the models: a request that names none goes to the first, as
    everywhere."""
    all_paths = pools[0].all_paths
    unknown = next((pool.name for pool in pools if pool.adapters), "control")
    for_engine = "!control_path" if all_paths else "METH_POST completion"
    frontend = [
        "frontend public",
        f"    bind fd@{listener_fd}",
        # Before anything waits for a body. What a client sends under this name is overwritten.
        f'    http-request set-header {arrival.HEADER} "%[date(0,us)] {arrival.machine()}"',
        f"    acl completion path {' '.join(PATHS)}",
        f"    acl control_path path {' '.join((*CONTROL_PATHS, *ACTIONS, SET_PATH))}",
        *_key_rules(api_key),
        *(_body_rules(for_engine) if len(pools) > 1 else ()),
        *further.rules,
        f"    use_backend control unless {for_engine}",
        *(_model_rules(pools, further) if len(pools) > 1 else ()),
        f"    default_backend {unknown if len(pools) > 1 else pools[0].name}",
    ]
    blocks = [_global(admin_path, threads), _defaults(), frontend, _control(control_path)]
    blocks += [_pool(pool) for pool in pools]
    blocks += [list(block) for block in further.blocks]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def too_long() -> ApiError:
    """Of a body that the router could not look into."""
    return ApiError(
        413,
        f"The request body is larger than {MAX_ROUTED_BODY_BYTES} bytes, which is what this server's router "
        "reads to find `model`.",
        type="BadRequestError",
    )


def place(pool: Pool, server: Server) -> list[str]:
    """Runtime commands that give a slot its address, or take it out when that is None."""
    slot = f"{pool.name}/{server.name}"
    if server.address is None:
        return [f"set server {slot} state maint", f"shutdown sessions server {slot}"]
    moved = []
    if not isinstance(server.address, str):
        host, port = server.address
        moved = [f"set server {slot} addr {host} port {port}"]
    return [
        *moved,
        f"set server {slot} health up",
        f"set server {slot} state ready",
    ]


def drain(pool: Pool, server: Server) -> list[str]:
    """Runtime commands that send no new request to a slot; what runs there goes on."""
    return [f"set server {pool.name}/{server.name} state drain"]


def quote(text: str) -> str:
    """One word of HAProxy's configuration, whatever is in it. Raises ValueError for control characters."""
    if any(ord(char) < 32 for char in text):
        raise ValueError(f"{text!r} holds a control character")
    return "'" + text.replace("'", "'\\''") + "'"


def _global(admin_path: str, threads: int) -> list[str]:
    return [
        "global",
        f"    stats socket unix@{admin_path} mode 600 level admin",
        f"    nbthread {threads}",
        f"    tune.bufsize {MAX_ROUTED_BODY_BYTES + _HEADERS_BYTES}",
    ]


def _defaults() -> list[str]:
    """Nothing times out but what never began: a first token may take as long as the queue is. Idle client
    connections are kept, because closing one in the moment of a request would look like a lost request."""
    lines = [
        "defaults",
        "    mode http",
        "    timeout connect 5s",
        "    timeout client 24h",
        "    timeout server 24h",
        "    timeout http-request 60s",
        "    timeout http-keep-alive 1h",
        "    timeout check 10s",
        "    option http-no-delay",
        "    option clitcpka",
        "    option srvtcpka",
        # A client that goes away is dropped at once, also while its request waits: that frees the engine.
        "    option abortonclose",
        # Only what was never sent is sent again, to another engine.
        "    retries 1",
        "    retry-on conn-failure",
        "    option redispatch 1",
    ]
    return lines + [f"    http-error status {status} {_answer(error)}" for status, error in _UNSHAPED.items()]


def _key_rules(api_key: str | None) -> list[str]:
    if api_key is None:
        return []
    digest = hashlib.sha256(api_key.encode()).hexdigest().upper()
    return [
        f"    acl key_ok http_auth_bearer,sha2(256),hex -m str {digest}",
        f"    acl open_path path {OPEN_PATH}",
        f"    http-request return status 401 {_answer(unauthorized())} unless open_path or key_ok",
    ]


def _body_rules(for_engine: str) -> list[str]:
    """Reads the body's ``model`` into a variable. (With one model its engines judge it, and no body is held
    up here.) What is too long for that goes to the control endpoint, which reads it all before it refuses it:
    an answer in the middle of a body is lost to most clients."""
    asked = f"if {for_engine} METH_POST !too_long"
    return [
        f"    acl too_long req.body_size gt {MAX_ROUTED_BODY_BYTES}",
        f"    http-request wait-for-body time 60s {asked}",
        f"    http-request set-var(txn.model) req.body,json_query('$.model') {asked}",
    ]


def _model_rules(pools: Sequence[Pool], further: Further) -> list[str]:
    first, named = pools[0].name, "var(txn.model)"
    lines = [
        "    use_backend control if too_long",
        *further.routes,
        f"    use_backend {first} if !{{ {named} -m found }}",
        f"    use_backend {first} if {{ {named} -m len 0 }}",
    ]
    lines += [f"    use_backend {pool.name} if {{ {named} -m str -- {quote(pool.model)} }}" for pool in pools]
    if not pools[0].all_paths:  # the embedder is none of the models: each of these engines has it
        lines.append(f"    use_backend {first} if {{ path {EMBEDDINGS} }}")
    return lines


def _control(path: str) -> list[str]:
    return ["backend control", f"    server head unix@{path}"]


def _pool(pool: Pool) -> list[str]:
    return [
        f"backend {pool.name}",
        "    balance leastconn",
        "    option httpchk",
        f"    http-check send meth GET uri {pool.health_path} ver HTTP/1.1 hdr Host engine",
        "    http-check expect status 200",
        f'    http-request set-header Authorization "Bearer ${{{TOKEN_ENV}}}"',
        # The head says what is there; checks only take out what it cannot see, such as a broken network. A
        # process that was stopped for a while keeps its requests.
        "    default-server check inter 1s fastinter 250ms downinter 500ms fall 3 rise 1 "
        "observe layer4 error-limit 1 on-error mark-down",
        *([f"    http-request set-path {pool.prefix}%[path]"] if pool.prefix else []),
        *(() if pool.all_paths else _foreign_rules()),
        *(_server(server) for server in pool.servers),
    ]


def _foreign_rules() -> list[str]:
    """Engines of ours answer in JSON, also when they refuse."""
    return [
        f"    http-response return status {error.status} {_answer(error)} if {{ status {status} }} "
        "!{ res.hdr(content-type) -m beg application/json }"
        for status, error in _FOREIGN.items()
    ]


def _server(server: Server) -> str:
    if server.socket is not None:
        where = f"unix@{server.socket}"
    elif isinstance(server.address, tuple):
        where = f"{server.address[0]}:{server.address[1]}"
    else:
        where = "127.0.0.1:1"
    return f"    server {server.name} {where}" + (
        " disabled" if server.address is None or server.draining else ""
    )


def _answer(error: ApiError) -> str:
    """An ApiError as the arguments of ``http-error`` and ``return``."""
    headers = "".join(f" hdr {name} {value}" for name, value in error.headers().items())
    return f"content-type application/json string {quote(orjson.dumps(error.body()).decode())}{headers}"
