"""A front process of an RVC engine: a further client of vLLM's engine process, with a port of its own.

    router ──HTTP──▶ aiohttp ──▶ admission ──▶ VllmEngine (AsyncLLM) ──▶ the actor's EngineCore

The engine's actor starts it (``python -m backends.cluster.vllm_front FD``), gives it a :class:`FrontSpec` on
stdin, and talks to it in lines over the socket FD. It ends when that does.

    to the actor:    up PORT · + ID ENGINES_ID · - ID · failed WHY · idle
    from the actor:  drain SECONDS · lost
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.cluster.vllm_service import EngineSpec, VllmService, drained, listen, open_service, serve_on
from backends.engines.vllm_clients import ClientPlace, share_metrics
from backends.errors.text import make_logs_visible

LOOK_S = 1.0


@dataclass(frozen=True)
class FrontSpec:
    """What a front process needs. ``arguments`` are the engine's; ``port`` 0 takes a free one; ``metrics`` is
    the folder that the engine's clients share."""

    spec: EngineSpec
    arguments: Sequence[tuple[str, str]]
    tool_parser: str | None
    path: str
    devices: tuple[str, ...]
    node_id: str
    place: ClientPlace
    host: str
    port: int
    metrics: str


def main() -> None:
    """Runs one; never returns."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)  # its end tells the actor that this process is gone
    front: FrontSpec = pickle.load(sys.stdin.buffer)
    make_logs_visible()
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    loop.run_until_complete(_run(front, control))
    os._exit(0)  # a thread inside of vLLM must not hold up the end


async def _run(front: FrontSpec, control: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=control)

    def say(line: str) -> None:
        writer.write(line.encode() + b"\n")

    serving = asyncio.create_task(_serve(front, reader, say))
    while (
        not serving.done() and not reader.at_eof()
    ):  # loading may take minutes, and the actor may go meanwhile
        await asyncio.wait({serving}, timeout=LOOK_S)
    if serving.done() and (error := serving.exception()) is not None:
        say("failed " + " ".join(str(error).split())[:300])
        await writer.drain()


async def _serve(front: FrontSpec, reader: asyncio.StreamReader, say: Callable[[str], None]) -> None:
    """Loads, serves, and does what the actor says until that is gone."""
    from backends.engines.vllm import join_engine

    spec = front.spec
    share_metrics(Path(front.metrics))
    engine = await join_engine(
        front.arguments,
        front.place,
        engine=spec.engine,
        model=spec.model,
        devices=front.devices,
        threads=spec.threads,
        node_id=front.node_id,
        tell=lambda ours, engines: say(f"+ {ours} {engines}"),
        ended=lambda ours: say(f"- {ours}"),
    )
    await engine.warm_up()
    service = await open_service(spec, engine, front.path, front.tool_parser, Path(front.metrics).parent)
    listener = listen(front.host, front.port)
    await serve_on(service, spec.token, listener)
    say(f"up {listener.getsockname()[1]}")
    await _obey(reader, service, engine, say)


async def _obey(
    reader: asyncio.StreamReader, service: VllmService, engine: Any, say: Callable[[str], None]
) -> None:
    while line := (await reader.readline()).decode().split():
        if line[0] == "lost":
            engine.lost()
        elif line[0] == "drain":
            await drained(service, engine, float(line[1]))
            say("idle")


if __name__ == "__main__":
    main()
