"""Options that say how a target is reached and what every request carries, and what they are read into."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from rvtop.errors import UserError

if TYPE_CHECKING:
    from rvtop.net.transport import Transport
    from rvtop.scenario.schema import Scenario
    from rvtop.telemetry.kv_events import KvSource

_SECRET = {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"}
_SECRET_ENDS = ("-key", "-token", "-secret", "-password")
#: What a request of ours says itself, and what would change how its answer must be read.
_OURS = {
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
}
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_OUR_FIELDS = {
    "stream": "rvtop measures streams",
    "model": "use --model",
    "messages": "use a scenario's workload",
    "prompt": "use a scenario's workload",
    "input": "use a scenario's workload",
    "query": "use a scenario's workload",
    "documents": "use a scenario's workload",
}


@dataclass(frozen=True)
class TargetOptions:
    """How a server that is up is reached, and what every request to it carries."""

    heading: ClassVar[str] = "How the server is reached"
    metrics_url: Annotated[
        list[str] | None,
        typer.Option("--metrics-url", help="Prometheus page of the server, if not /metrics."),
    ] = None
    kv_events_url: Annotated[
        list[str] | None,
        typer.Option(
            "--kv-events-url",
            metavar="URL[,REPLAY-URL]",
            help="Where an engine publishes KV events (vLLM's --kv-events-config): tcp://host:5557; repeat.",
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="File with the target's API key (or set RVTOP_API_KEY)."),
    ] = None
    ca: Annotated[Path | None, typer.Option("--ca", help="PEM file of the authority to trust (https).")] = (
        None
    )
    cert: Annotated[Path | None, typer.Option("--cert", help="PEM file of our own certificate (mTLS).")] = (
        None
    )
    key: Annotated[Path | None, typer.Option("--key", help="PEM file of that certificate's key.")] = None
    insecure: Annotated[bool, typer.Option("--insecure", help="Don't check the target's certificate.")] = (
        False
    )
    unix_socket: Annotated[
        Path | None, typer.Option("--unix-socket", help="Connect to this socket instead.")
    ] = None
    header: Annotated[
        list[str] | None, typer.Option("--header", help="Further header 'Name: value'; repeat.")
    ] = None
    header_file: Annotated[
        Path | None,
        typer.Option("--header-file", help="File of such lines, for secret ones; never stored."),
    ] = None
    api_key_header: Annotated[
        str,
        typer.Option("--api-key-header", help="Header of the API key, as api-key; default a bearer token."),
    ] = "Authorization"
    body: Annotated[
        list[str] | None,
        typer.Option("--body", help="Field k=v of every request; v: JSON or text, null: leave it out."),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            help="chat, completions, responses, messages, embeddings or rerank; default as the prompts are.",
        ),
    ] = None


def transport_from(url: str | None, options: TargetOptions) -> Transport:
    """How to reach the target at ``url`` (None: a topology of ours, for which only the defaults will do).

    Reads the files of TLS too, so that a bad one is reported before anything starts. Raises UserError; no
    message holds a header's value.
    """
    from rvtop.net.transport import AUTHORIZATION, Transport
    from rvtop.target.probe import KEY_ENV

    ca, cert, key, insecure = options.ca, options.cert, options.key, options.insecure
    tls = {"--ca": ca, "--cert": cert, "--key": key, "--insecure": insecure}
    given = [name for name, value in tls.items() if value]
    transport = Transport(
        headers=_headers(options.header or (), options.header_file),
        key_header=options.api_key_header or AUTHORIZATION,
        ca_file=_text(ca),
        cert_file=_text(cert),
        key_file=_text(key),
        insecure=insecure,
        unix_socket=_text(options.unix_socket),
    )
    if url is None:
        if transport != Transport():
            raise UserError(
                f"{_first_option(transport, given)} goes with --target: a topology of ours needs none"
            )
        return transport
    _check_name("--api-key-header", transport.key_header)
    if transport.key_header.lower() in _OURS | {"host"}:
        raise UserError(f"--api-key-header {transport.key_header}: rvtop sets that one itself")
    if os.environ.get(KEY_ENV) and transport.key_header.lower() in {
        name.lower() for name in transport.headers
    }:
        raise UserError(
            f"{transport.key_header} comes from {KEY_ENV} and from a header option: take one of them away"
        )
    if given and not url.lower().startswith("https://"):
        raise UserError(f"{given[0]}: {_without_secret(url)} is not https://, so there is no TLS to set up")
    if key is not None and cert is None:
        raise UserError(f"--key {key}: goes with --cert FILE")
    if insecure and ca is not None:
        raise UserError("--insecure and --ca exclude each other: give one of them")
    if given:
        transport.ssl_context()
    return transport


def speaking(scenario: Scenario, options: TargetOptions) -> Scenario:
    """The scenario with ``--endpoint``. Raises UserError where it does not go with that endpoint."""
    from rvtop.load.plan.api import KINDS
    from rvtop.scenario.load import scenario_from
    from rvtop.scenario.schema import to_data

    name = options.endpoint
    if name is None or name == scenario.endpoint:
        return scenario
    if name not in KINDS:
        raise UserError(f"--endpoint {name}: must be one of {', '.join(KINDS)}")
    if not scenario.phases:  # of a hand-driven session, which no file says
        return scenario.model_copy(update={"endpoint": name})
    return scenario_from(to_data(scenario) | {"endpoint": name}, f"--endpoint {name}")


def body_from(fields: Iterable[str] | None) -> dict[str, Any]:
    """Request fields of ``k=v`` texts; a value that is JSON is one, any other is text. Raises UserError."""
    import orjson

    found: dict[str, Any] = {}
    for field in fields or ():
        name, equals, text = field.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--body {field}: must look like name=value")
        name = name.strip()
        if name in _OUR_FIELDS:
            raise UserError(f"--body {name}: can't be set, {_OUR_FIELDS[name]}")
        if name in found:
            raise UserError(f"--body {name}: is given twice")
        try:
            field.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"--body {name!a}: is not UTF-8") from error
        try:
            found[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            found[name] = text
    return found


def load_key(file: Path | None) -> None:
    """A key from a file goes where a key from the environment is: into our own environment."""
    if file is None:
        return
    from rvtop.system.files import read_regular
    from rvtop.target.probe import KEY_ENV

    try:
        key = read_regular(file).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"--api-key-file {file}: can't be read: it is not UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--api-key-file {file}: can't be read: {reason}") from error
    if not key:
        raise UserError(
            f"--api-key-file {file}: holds no key; write the key into it, or leave the option out"
        )
    os.environ[KEY_ENV] = key


def metrics_urls(given: list[str] | None) -> tuple[str, ...]:
    """The pages of ``--metrics-url``. Raises UserError for what is none, and where one holds a password:
    they are written down."""
    from urllib.parse import urlsplit

    from rvtop.target.probe import shown

    for url in given or ():
        try:
            sound = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
            urlsplit(url).port  # noqa: B018 - reading it is the check
        except ValueError:
            sound = False
        if not sound:
            raise UserError(f"--metrics-url {shown(url)}: must look like http://host:8000/metrics")
        if shown(url) != url:
            raise UserError(f"--metrics-url {shown(url)}: leave out the user name and password before the @")
    return tuple(given or ())


def kv_sources(given: list[str] | None) -> tuple[KvSource, ...]:
    """The sources of ``--kv-events-url``. Raises UserError for what is none, and where none can be read."""
    from rvtop.telemetry.kv_events import missing, source_of

    if given and (why := missing()):
        raise UserError(f"--kv-events-url: {why}")
    return tuple(source_of(text, number) for number, text in enumerate(given or ()))


# -- headers -----------------------------------------------------------------------------------


def _headers(given: Iterable[str], file: Path | None) -> dict[str, str]:
    from rvtop.system.files import read_regular

    found: dict[str, str] = {}
    for line in given:
        name, value = _header(line, "--header")
        if name.lower() in _SECRET or name.lower().endswith(_SECRET_ENDS):
            raise UserError(
                f"--header {name}: a secret on the command line shows in process lists; "
                "set RVTOP_API_KEY (with --api-key-header NAME), or use --header-file FILE"
            )
        _put(found, name, value, f"--header {name}")
    if file is not None:
        try:
            text = read_regular(file).decode("utf-8")  # as it is: a lone CR is no line end
        except UnicodeDecodeError as error:
            raise UserError(f"--header-file {file}: can't be read: it is not UTF-8") from error
        except OSError as error:
            raise UserError(f"--header-file {file}: can't be read: {error.strerror}") from error
        for number, line in enumerate(text.split("\n"), 1):
            line = line.removesuffix("\r")
            if line.strip() and not line.startswith("#"):
                where = f"--header-file {file}:{number}"
                name, value = _header(line, where)
                _put(found, name, value, f"{where}: {name}")
    return found


def _header(line: str, where: str) -> tuple[str, str]:
    """Name and value of ``Name: value``. The message never shows the line: it may be a secret."""
    name, colon, value = line.partition(":")
    if not colon:
        raise UserError(f"{where}: must look like 'Name: value'")
    _check_name(where, name)
    value = value.strip(" \t")
    if any((ord(c) < 32 and c != "\t") or 127 <= ord(c) < 160 or ord(c) > 255 for c in value):
        raise UserError(
            f"{where}: the value of {name} holds a character that no HTTP header can carry "
            "(a line break, a control character, or one beyond Latin-1)"
        )
    if name.lower() in _OURS:
        raise UserError(f"{where}: {name} can't be set, rvtop sets it itself")
    return name, value


def _check_name(where: str, name: str) -> None:
    if not name or not set(name.lower()) <= _TOKEN:
        raise UserError(f"{where}: a header's name is letters, digits and dashes, without a space")


def _put(found: dict[str, str], name: str, value: str, where: str) -> None:
    if name.lower() in {known.lower() for known in found}:
        raise UserError(f"{where}: is given twice")
    found[name] = value


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _first_option(transport: Transport, tls: Sequence[str]) -> str:
    """One of the options that were given."""
    if tls:
        return tls[0]
    if transport.unix_socket:
        return "--unix-socket"
    return "--header" if transport.headers else "--api-key-header"


def _without_secret(url: str) -> str:
    from rvtop.target.probe import shown

    return shown(url)
