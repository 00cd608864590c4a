"""The command line of ``python -m backends``: arguments and environment -> Options with a bound socket."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from backends import registry
from backends.errors import UsageError
from backends.models.load import ModelError, default_index, default_models, is_local, resolve_model
from backends.process import again
from backends.settings import (
    auto_place,
    autoscale,
    fronts,
    graph,
    lora,
    rpc,
    serve,
    serve_llm,
    split,
    vllm,
    vllm_server,
)
from backends.settings.environment import KEY_ENV
from backends.settings.options import DTYPES, ModelSpec, Options

BACKLOG = 4096


class _Parser(argparse.ArgumentParser):
    """Says what is wrong by UsageError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells an option's default where there is one and its text does not."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default is None or action.default is False or "default" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


class _List(argparse.Action):
    """Prints the registry and ends the process, as ``--help`` does with the help."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> NoReturn:
        print(registry.listing())
        parser.exit()


def parse_options(argv: Sequence[str]) -> tuple[Options, bool, bool]:
    """Options, whether stdin is a lease, and whether this is only a check. The port is bound when this
    returns.

    Raises UsageError with one line that says what is wrong and what to give instead.
    """
    args = _parser().parse_args(argv)
    taken = registry.entry(args.topology).flags
    for group in (vllm, vllm_server, fronts, autoscale, auto_place, serve, serve_llm, graph, lora, rpc):
        if group.__name__.rpartition(".")[2] not in taken:
            group.refuse_flags(args, args.topology)
    models = _models(args.model or [])
    api_key = _api_key(args.api_key_file)
    if not _loopback(args.host) and api_key is None:
        raise UsageError(
            f"--host {args.host} lets others in: set {KEY_ENV}, or give --api-key-file FILE with a key"
        )
    options = Options(
        topology=args.topology,
        models=models,
        listener=again.listener() or bind(args.host, args.port),
        host=args.host,
        api_key=api_key,
        engine_concurrency=args.engine_concurrency,
        max_queue=args.max_queue,
        dtype=args.dtype,
        threads=args.threads,
        max_model_len=args.max_model_len if args.max_model_len is not None else _env_max_model_len(),
        index=_index(args.index, args.topology),
        embedder=args.embedder,
        seed=args.seed,
        trust_remote_code=args.trust_remote_code,
        ray_address=args.ray_address or os.environ.get("RAY_ADDRESS") or None,
        num_replicas=args.num_replicas,
        vllm=vllm.from_args(args),
        vllm_server=vllm_server.from_args(args),
        front_processes=fronts.from_args(args),
        autoscale=autoscale.from_args(args),
        auto_place=auto_place.from_args(args, [model.name for model in models]),
        serve=serve.from_args(args),
        serve_llm=serve_llm.from_args(args),
        split=split.from_args(args, models),
        graph=graph.from_args(args),
        lora=lora.from_args(args, models),
        grpc=rpc.from_args(args, bind, again.grpc_port()),
    )
    return options, args.lease, args.check


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -P -m backends",
        description="Serves one topology: an OpenAI-compatible API, /health, /metrics and /rvtop/topology.",
        formatter_class=_Help,
    )
    add = parser.add_argument
    add("topology", metavar="TOPOLOGY", help=", ".join(registry.REGISTRY))
    add("--host", default="127.0.0.1", help="address to listen on; one that others reach needs an API key")
    add("--port", type=_number(0, 65535), default=0, help="0 takes a free one")
    add("--model", action="append", metavar="NAME=SOURCE", help="model folder, Hub id or `tiny`; repeatable")
    add("--engine-concurrency", type=_number(1), metavar="N", help="requests an engine runs at once")
    add("--max-queue", type=_queue, default=1024, metavar="N", help="requests that may wait, or `unlimited`")
    add("--dtype", choices=DTYPES, default="auto", help="of the weights")
    add("--threads", type=_number(1), metavar="N", help="CPU threads of torch")
    add("--max-model-len", type=_number(2), metavar="N", help="context in tokens (or VLLM_MAX_MODEL_LEN)")
    add(
        "--index", metavar="DIR", help="index for requests with `rag`; default the experiment's, `none`: none"
    )
    add("--embedder", metavar="PATH", help="embedding model of the index")
    add("--seed", type=int, default=0, help="of sampling, for requests without their own")
    add("--api-key-file", metavar="FILE", help=f"file with the API key (or {KEY_ENV})")
    add("--trust-remote-code", action="store_true", help="let a model folder run its own Python")
    add("--ray-address", metavar="auto|HOST:PORT", help="Ray cluster to attach to; none starts a local one")
    add("--num-replicas", type=_number(1), metavar="N", help="engines per model (Ray topologies)")
    autoscale.add_arguments(parser)
    auto_place.add_arguments(parser)
    serve.add_arguments(parser)
    serve_llm.add_arguments(parser)
    vllm.add_arguments(parser)
    vllm_server.add_arguments(parser)
    fronts.add_arguments(parser)
    split.add_arguments(parser)
    graph.add_arguments(parser)
    lora.add_arguments(parser)
    rpc.add_arguments(parser)
    add("--lease", action="store_true", help="stdin is a lease: a line every 2 s, else this process stops")
    add("--check", action="store_true", help="say which models would be served, and end")
    add("--list", action=_List, nargs=0, help="print the topologies as JSON, and end")
    return parser


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, so that no one else can take the port while models load. Raises UsageError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: {error.strerror}; give an address of this machine") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(_bind_error(host, port, error)) from None
    listener.setblocking(False)
    return listener


def _bind_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another with --port, or --port 0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges; choose one above 1023 with --port"
    return f"cannot listen on {host} port {port}: {error.strerror}; give an address of this machine"


def _models(given: Sequence[str]) -> tuple[ModelSpec, ...]:
    if not given:
        return tuple(ModelSpec(name, source) for name, source in default_models().items())
    specs: list[ModelSpec] = []
    for text in given:
        name, equals, source = text.partition("=")
        if not equals:
            name, source = re.split(r"[/\\]", text.rstrip("/\\"))[-1], text
        if not name or not source:
            raise UsageError(f"--model {text!r}: write NAME=SOURCE, for example tiny=tiny")
        if name in [spec.name for spec in specs]:
            raise UsageError(f"--model {text!r}: the name {name!r} is given twice")
        specs.append(ModelSpec(name, _checked(name, source)))
    return tuple(specs)


def _checked(name: str, source: str) -> str:
    """The source, a folder's absolute: engines have another working folder. Says now what would fail after a
    long import. (Local models are built later, with their progress.)"""
    if is_local(source):
        return source
    try:
        found = resolve_model(source)
    except ModelError as error:
        raise UsageError(f"--model {name}: {error}") from None
    return str(found.absolute()) if isinstance(found, Path) else found


def _index(given: str | None, topology: str) -> str | None:
    """The index asked for; by default the experiment's, where it is one that can be opened here (a folder of
    LangChain's is no reason not to start). A graph without one would be an LLM alone: it takes the sample."""
    if given is not None:
        return None if given == "none" else given
    found = default_index()
    usable = found is not None and Path(found, "meta.json").is_file()
    if usable and find_spec("faiss") and find_spec("sentence_transformers"):
        return found
    return "sample" if topology == "graph" else None


def _api_key(file: str | None) -> str | None:
    if file is None:
        return os.environ.get(KEY_ENV) or None
    if Path(file).exists() and not Path(file).is_file():
        raise UsageError(f"--api-key-file {file}: not a regular file")
    try:
        key = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--api-key-file {file}: cannot be read ({error})") from None
    if not key:
        raise UsageError(f"--api-key-file {file}: the file is empty")
    return key


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _env_max_model_len() -> int | None:
    text = os.environ.get("VLLM_MAX_MODEL_LEN", "").strip()
    if not text:
        return None
    try:
        return _number(2)(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"VLLM_MAX_MODEL_LEN: {error}") from None


def _number(low: int, high: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low or (high is not None and value > high):
            span = f"at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text} must be {span}")
        return value

    return convert


def _queue(text: str) -> int | None:
    return None if text == "unlimited" else _number(0)(text)
