"""The process of one vLLM server: ``python -P -m backends.vllm_server.launch`` and one JSON object.

It checks the arguments with vLLM's own parser and configuration, as RVC's engines do, writes what the head
wants to know of the engine into a file, and then is ``vllm serve``. stdin is a pipe from the head: at its end
this process ends, and the reaper ends all that vLLM started.

Exit codes: 2 vLLM refuses an argument, 4 it does not start; the last line printed says why.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from backends.engines.vllm_args import (
    REQUEST_METRICS,
    argv_of,
    engine_config,
    made_of,
    parser_of,
    wants_request_metrics,
)
from backends.engines.vllm_environment import vllm_environment
from backends.errors import StartFailure, missing_package
from backends.process.scratch_dir import OwnedTempDir
from backends.settings.vllm import VllmOptions


@dataclass(frozen=True)
class Order:
    """What to start. ``arguments`` are vLLM's as (name, value); it answers at the Unix socket ``socket``, and
    what vLLM makes of them (``engines.vllm_args.Made``) is written to ``facts``. ``cpu_threads`` None: it
    computes on a GPU. ``kv_events``: where the arguments have it publish what it caches. ``aliases``: further
    names of its model."""

    arguments: list[tuple[str, str]]
    socket: str
    facts: str
    cpu_threads: int | None
    eager: bool | None
    tensor_parallel: int
    pipeline_parallel: int
    api_server_count: int | None
    rust_frontend: bool
    kv_events: dict[str, str] | None = None
    aliases: tuple[str, ...] = ()


def main(order: Order) -> None:
    """Becomes vLLM's server. Raises UsageError, StartFailure."""
    folder = OwnedTempDir("rvtop-eng-", group=os.getpgid(0))
    options = VllmOptions(
        eager=order.eager,
        tensor_parallel=order.tensor_parallel,
        pipeline_parallel=order.pipeline_parallel,
        kv_events=order.kv_events is not None,
    )
    environ = vllm_environment(os.environ, options, folder=str(folder.path), cpu_threads=order.cpu_threads)
    os.environ.update(environ | folder.env)
    if order.rust_frontend:
        os.environ["VLLM_USE_RUST_FRONTEND"] = "1"
    threading.Thread(target=_end_with_the_head, name="lease", daemon=True).start()
    try:
        argv = _prepare(order)
    except ModuleNotFoundError as error:
        raise StartFailure(missing_package(error)) from error
    _know_the_version()
    sys.argv = ["vllm", "serve", *argv]
    from vllm.entrypoints.cli.main import main as vllm

    vllm()


def _prepare(order: Order) -> list[str]:
    """The words behind ``vllm serve``."""
    parser = parser_of(_add_serve_arguments())
    args, config = engine_config(order.arguments, on_cpu=order.cpu_threads is not None, parser=parser)
    Path(order.facts).write_text(json.dumps(asdict(made_of(config))))
    elsewhere = {"model", "served-model-name"} if order.aliases else {"model"}
    arguments = [pair for pair in order.arguments if pair[0] not in elsewhere]
    if args.kv_cache_memory_bytes is not None:
        arguments.append(("kv-cache-memory-bytes", str(args.kv_cache_memory_bytes)))
    if order.api_server_count is not None:
        arguments.append(("api-server-count", str(order.api_server_count)))
    known = {option.removeprefix("--") for option in parser._option_string_actions}
    # The front end in Rust has arguments of its own.
    if not order.rust_frontend and wants_request_metrics(order.arguments, known):
        arguments.append((REQUEST_METRICS, "true"))
    # A line a request would cost time that no other topology spends.
    arguments += [("uds", order.socket), ("disable-uvicorn-access-log", "true")]
    served = ["--served-model-name", *args.served_model_name, *order.aliases] if order.aliases else []
    return [args.model, *argv_of(parser, arguments), *served]


def _add_serve_arguments() -> Callable[[Any], Any]:
    """The function that gives a parser the arguments of ``vllm serve``; it moved between releases."""
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
    except ImportError:
        from vllm.entrypoints.openai.cli_args import make_arg_parser
    return make_arg_parser  # type: ignore[no-any-return]


def _know_the_version() -> None:
    """``vllm serve`` asks for the version of a distribution named ``vllm``; its build for the CPU has another
    name."""
    import vllm

    real = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return real(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name == "vllm":
                return str(vllm.__version__)
            raise

    importlib.metadata.version = version


def _end_with_the_head() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _run() -> NoReturn:
    code = 0
    try:
        main(Order(**json.loads(sys.argv[1])))
    except StartFailure as error:  # a UsageError is one, with an exit code of its own
        print(error, file=sys.stderr, flush=True)
        code = error.exit_code
    # Not sys.exit: at the end of a refused start nothing of vLLM's has to be waited for.
    os._exit(code)


if __name__ == "__main__":
    _run()
