"""The server under load: what a URL leads to, which models it serves, and whether it still answers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import ssl
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from rvtop.errors import UserError
from rvtop.load.plan.api import KINDS
from rvtop.net.http_get import AnswerTooLong, get
from rvtop.net.place import GRPC
from rvtop.net.transport import Transport
from rvtop.target.engines import MOST_ENGINES, engine_knobs, engine_places, engines_up, told_by_engine
from rvtop.target.grpc_probe import OURS, ask_grpc, grpc_url, speaks_http2, trouble
from rvtop.target.mix import is_pattern, matching
from rvtop.text import NAME_LIMIT, printable, told

#: The API key of the target. Its value stays in the environment: it is in no argument, file or message.
KEY_ENV = "RVTOP_API_KEY"

_PROBE_TIMEOUT_S = 5.0
#: Ends of a URL that name a page of the API rather than where it is.
_PAGES = (*(kind.path for kind in KINDS.values()), "/v1/models", "/v1", "/metrics", "/health", "/docs")
_PATH_SAFE = "/%:@!$&'()*+,;=~"
#: A model's id may be a path (4096 bytes at most), and goes along with each request.
_ID_LIMIT = 4096


class TargetError(UserError):
    """The target can't be used."""

    def __init__(self, message: str, exit_code: int = 3) -> None:
        super().__init__(message, exit_code)


class _TooLong(TargetError):
    """It answers, with a response over the limit."""


@dataclass(frozen=True)
class TargetInfo:
    """What a probe learned."""

    url: str  # scheme://host:port, and the prefix before /v1 if the server has one
    models: tuple[str, ...]  # as the server names them, for requests; shown by ``printable`` only
    topology: str | None  # one of ours, if the server says so
    engine: str | None  # owned_by of its first model: "vllm", …
    on_ray: bool = False  # one of ours that says which Ray cluster it runs on
    places: Mapping[str, int] = field(default_factory=dict)  # in each engine's batch, where it is told
    knobs: tuple[Mapping[str, str | int], ...] = ()  # of each engine (engines.ENGINE_KNOBS), of one of ours
    dashboard: str = ""  # URL of Ray's, where one of ours tells it
    # Where each engine publishes KV events: engine, model, url, perhaps replay; of one of ours that does.
    kv_events: tuple[dict[str, str], ...] = ()
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # as each of one of ours said
    derived: frozenset[str] = frozenset()  # of ``models`` those with a `parent`: LoRA adapters
    http_url: str = ""  # of a gRPC target: where the same server answers HTTP, if it does

    @property
    def pages(self) -> str:
        """Where its pages are: the URL itself, unless that speaks gRPC."""
        return self.http_url or self.url


def base_url(url: str) -> str:
    """``url`` up to where /v1 begins, so that …/v1 and …/v1/chat/completions mean the same server; a prefix
    before it (a gateway's) stays.

    Raises UserError (exit code 2) for what is no http or grpc URL, or holds a password or a query.
    """
    text = url if "://" in url else f"http://{url}"
    if text.startswith(GRPC):
        return grpc_url(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        why = "a port is a number up to 65535" if str(error).startswith("Port ") else str(error)
        raise TargetError(
            f"{shown(url)}: not a URL ({why}); it should look like http://host:8000", 2
        ) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError(f"{shown(url)}: not an http URL; it should look like http://host:8000", 2)
    if "@" in parts.netloc:
        raise TargetError(
            f"{shown(url)}: a user name or password in a URL shows in process lists; give an Authorization "
            "line in a file with --header-file",
            2,
        )
    if parts.query or parts.fragment:
        raise TargetError(f"{url}: ends in a query, which would not be sent; leave it out", 2)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    prefix = parts.path.rstrip("/")
    prefix = prefix.removesuffix(next((page for page in _PAGES if prefix.endswith(page)), "")).rstrip("/")
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") + quote(prefix, safe=_PATH_SAFE)


def shown(url: str) -> str:
    """``url`` as a message may show it: without a user name and password."""
    begin, mark, rest = url.partition("://")
    if not mark:
        begin, rest = "", url
    host, slash, path = rest.partition("/")
    return f"{begin}{mark}{host.rpartition('@')[2]}{slash}{path}"


def auth_headers(transport: Transport | None = None) -> dict[str, str]:
    """The header with the target's API key, if a key is set. Raises TargetError (exit code 2)."""
    key = os.environ.get(KEY_ENV)
    if not key:
        return {}
    if not (
        key.isascii() and key.isprintable() and " " not in key
    ):  # whatever else says so would show the key
        raise TargetError(f"{KEY_ENV}: holds a character that no HTTP header can carry", 2)
    return (transport or Transport()).key_headers(key)


async def probe(url: str, transport: Transport | None = None) -> TargetInfo:
    """Asks a server what it serves. Raises TargetError, TransportError."""
    transport = transport or Transport()
    base = base_url(url)
    if base.startswith(GRPC):
        return await _probe_grpc(base, transport)
    status, body = await asyncio.to_thread(ask, f"{base}/v1/models", transport)
    if status in (401, 403):
        raise TargetError(f"{base}: needs an API key (HTTP {status}); set {KEY_ENV}")
    models = _model_rows(status, body)
    if models is None:
        raise TargetError(
            f"{base}: not an OpenAI-compatible server "
            f"(GET /v1/models gave HTTP {status} and no list of models)"
        )
    return await _with_facts(_info(base, models), transport)


async def _probe_grpc(url: str, transport: Transport) -> TargetInfo:
    """Asks a gRPC server; what it is besides its HTTP pages say, if it has some. Raises TargetError."""
    headers = {**auth_headers(transport), **transport.headers}
    answer = await ask_grpc(url, headers, transport, _PROBE_TIMEOUT_S)
    if answer.get("error"):
        raise TargetError(*trouble(url, answer["error"]))
    models = [row for row in answer["models"] if _is_id(row["id"])]
    if not models:
        raise TargetError(f"{url}: lists no model that it serves")
    parts = urlsplit(url)
    base = f"{GRPC}{parts.netloc}" + (f"/{answer['service']}" if answer["service"] != OURS else "")
    info = _info(base, models)
    port = answer["http_port"]
    if not port or transport.unix_socket is not None:
        return info
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return await _with_facts(replace(info, http_url=f"http://{host}:{port}"), transport)


def _info(url: str, models: Sequence[Mapping[str, Any]]) -> TargetInfo:
    engine = next((told(row["owned_by"], NAME_LIMIT) for row in models if row.get("owned_by")), None)
    return TargetInfo(
        url=url,
        models=tuple(row["id"] for row in models),
        topology=None,
        engine=engine,
        derived=frozenset(row["id"] for row in models if isinstance(row.get("parent"), str)),
    )


async def _with_facts(info: TargetInfo, transport: Transport) -> TargetInfo:
    """With what a topology of ours says of itself; as it is where none is."""
    with contextlib.suppress(TargetError, ValueError, AttributeError, RecursionError):
        status, body = await asyncio.to_thread(ask, f"{info.pages}/rvtop/topology", transport)
        facts = json.loads(body) if status == 200 else {}
        named = facts.get("topology")
        return replace(
            with_engines(info, facts),
            topology=printable(named, NAME_LIMIT) if isinstance(named, str) else None,
            on_ray=bool(facts.get("ray")),
            dashboard=_dashboard(facts.get("ray")),
            kv_events=_kv_events(facts.get("engines")),
        )
    return info


def with_engines(info: TargetInfo, facts: Any) -> TargetInfo:
    """With the places and settings of the engines that are up by now, from an answer to ``/rvtop/topology``;
    as it is where that tells of none."""
    rows = facts.get("engines") if isinstance(facts, dict) else None
    if not isinstance(rows, list):
        return info
    rows = engines_up(rows, info.engines)
    return replace(info, places=engine_places(rows), knobs=engine_knobs(rows), engines=told_by_engine(rows))


def _dashboard(ray: Any) -> str:
    """The URL of Ray's dashboard, from what ``/rvtop/topology`` says of the cluster; empty without one."""
    url = ray.get("dashboard") if isinstance(ray, dict) else None
    return (
        printable(url, NAME_LIMIT) if isinstance(url, str) and url.startswith(("http://", "https://")) else ""
    )


def _kv_events(rows: Any) -> tuple[dict[str, str], ...]:
    """Where each engine publishes KV events, from the same rows."""
    found = []
    for row in rows[:MOST_ENGINES] if isinstance(rows, list) else ():
        told_of = row.get("kv_events") if isinstance(row, dict) else None
        if isinstance(told_of, dict) and isinstance(told_of.get("url"), str):
            texts = {"engine": row.get("engine"), "model": row.get("model"), **told_of}
            found.append({name: printable(v, _ID_LIMIT) for name, v in texts.items() if isinstance(v, str)})
    return tuple(row for row in found if "engine" in row)


def choose_models(info: TargetInfo, wanted: Collection[str], *, unlisted: bool = False) -> tuple[str, ...]:
    """The models to send to: those ``wanted``, by name or by a pattern as ``lora-*``; with none, the target's
    only one that is no other's adapter. ``unlisted``: a name that the target does not list is taken as it is
    (servers leave out what embeds beside an LLM).

    Raises TargetError (exit code 2) when the choice is impossible or open.
    """
    known = listed(info.models)
    # What a user can type is the name as it is shown.
    ids = {printable(name): name for name in info.models} | {name: name for name in info.models}
    meant = matching(list(wanted), list(ids))
    for name in wanted:
        if name not in meant.values() and not (unlisted and not is_pattern(name)):
            what = "model that matches" if is_pattern(name) else "model"
            raise TargetError(f"{info.url} serves no {what} {name!r}; it serves: {known}", 2)
    twice = [name for name, count in Counter(list(wanted)).items() if count > 1]
    if twice:
        raise TargetError(f"--model {twice[0]}: is given twice", 2)
    if wanted:
        # One that is not served has come so far only as `unlisted`, and stands for itself.
        found = [[one for one, asked in meant.items() if asked == name] or [name] for name in wanted]
        return tuple(dict.fromkeys(ids.get(one, one) for some in found for one in some))
    models = bases(info)
    if len(models) > 1:
        raise TargetError(f"{info.url} serves several models; name one or more with --model: {known}", 2)
    return models


def bases(info: TargetInfo) -> tuple[str, ...]:
    """The models that are no other's adapter; all where every one is."""
    return tuple(name for name in info.models if name not in info.derived) or info.models


def has_models(info: TargetInfo, models: Sequence[str], before: TargetInfo | None) -> bool:
    """Whether a load that sends ``models`` to the server ``before`` may ask ``info`` for the same: it lists
    them, or ``before`` does not list them either (what embeds beside an LLM)."""
    return set(models) <= set(info.models) or not (before is None or set(models) <= set(before.models))


def models_beside(info: TargetInfo, ours: Sequence[str], first: TargetInfo | None) -> tuple[str, ...]:
    """What a second server is asked for where the ``first`` gets ``ours``: the same by name if it may be,
    else its only one. Raises TargetError."""
    if has_models(info, ours, first):
        return tuple(ours)
    own = bases(info)
    if len(own) != 1 or len(ours) != 1:
        raise TargetError(
            f"{shown(info.url)} does not serve all of what the first server is sent to ({listed(ours)}); it "
            f"serves: {listed(info.models)}: name those that both serve with --model",
            2,
        )
    return own


def listed(names: Sequence[str], most: int = 10) -> str:
    """``names`` for a line of text; of many only the first ``most``, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … and {len(names) - most} more"


async def answers(url: str, transport: Transport | None = None, timeout_s: float | None = None) -> bool:
    """Whether anything speaks HTTP there still (gRPC's HTTP/2, where that is the target's), within
    ``timeout_s`` (a probe's by default)."""
    if url.startswith(GRPC):
        return await speaks_http2(url, transport or Transport(), timeout_s or _PROBE_TIMEOUT_S)
    try:
        await asyncio.to_thread(ask, f"{url}/health", transport or Transport(), timeout_s)
    except _TooLong:
        return True
    except TargetError:
        return False
    return True


def ask(
    url: str,
    transport: Transport,
    timeout_s: float | None = None,
    method: str = "GET",
    data: bytes | None = None,
) -> tuple[int, bytes]:
    """Status and body. Raises TargetError, TransportError."""
    timeout_s = _PROBE_TIMEOUT_S if timeout_s is None else timeout_s
    base = url.rpartition("/v1/")[0] or url
    if url.startswith(GRPC):
        raise TargetError(f"{base}: has no HTTP pages")
    if transport.unix_socket is not None:
        base = f"{base} on {transport.unix_socket}"
    try:
        return get(url, transport, auth_headers(transport), timeout_s, method, data)
    except AnswerTooLong as error:
        page = urlsplit(url).path
        raise _TooLong(f"{base}: the answer to {method} {page} is {error}") from error
    except ssl.SSLError as error:
        raise TargetError(f"{base}: {_tls_problem(error)}") from error
    except ConnectionResetError as error:  # TLS 1.3 refuses a client behind the handshake
        hint = "is the server up?"
        if url.startswith("https:") and transport.cert_file is None:
            hint = "does it want --cert FILE --key FILE of yours?"
        raise TargetError(f"{base}: reset the connection ({error}); {hint}") from error
    except TimeoutError as error:
        raise TargetError(f"{base}: no answer within {timeout_s:g} s; is the host right?") from error
    except ConnectionRefusedError as error:
        raise TargetError(f"{base}: nothing answers there (connection refused); is the server up?") from error
    except UnicodeError as error:
        raise TargetError(f"{base}: no host can have that name ({error})", 2) from error
    except OSError as error:
        raise TargetError(f"{base}: can't be reached ({error}); is the server up?") from error
    except http.client.HTTPException as error:
        raise TargetError(f"{base}: what answers there is not HTTP ({error!r})") from error


def _tls_problem(error: ssl.SSLError) -> str:
    """Why TLS failed, and the option that fixes it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); "
            "name its authority with --ca FILE, or skip the check with --insecure"
        )
    reason = error.reason or str(error)
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "UNKNOWN_CA" in reason:
        return f"refuses the TLS connection ({reason}); does it want --cert FILE --key FILE of yours?"
    return f"no TLS connection can be made ({reason}); is it http:// instead?"


def _model_rows(status: int, body: bytes) -> list[dict[str, Any]] | None:
    try:
        rows = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if status != 200 or not isinstance(rows, list):
        return None
    return [row for row in rows if isinstance(row, dict) and _is_id(row.get("id"))] or None


def _is_id(value: Any) -> bool:
    """Whether a request can name it: text, not too long, that UTF-8 can hold (no lone surrogate)."""
    if not isinstance(value, str) or len(value) > _ID_LIMIT:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
