"""The child's end of its pipes: stdin and stdout belong to messages alone."""

from __future__ import annotations

import asyncio
import os

_CLOSE_STEP_S = 0.005


def own_stdout() -> int:
    """A descriptor of the real stdout; whatever a library prints from now on goes to stderr instead, and not
    between the messages."""
    own = os.dup(1)
    os.dup2(2, 1)
    return own


def own_stdin() -> int:
    """A descriptor of the real stdin; whatever reads stdin from now on finds it empty."""
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return own


async def frames_out() -> asyncio.WriteTransport:
    """The real stdout (see :func:`own_stdout`) as a transport of the running loop."""
    pipe = os.fdopen(own_stdout(), "wb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.Protocol, pipe)
    return transport


async def close(frames: asyncio.WriteTransport) -> None:
    """Closes it once everything is written, or the parent is gone."""
    frames.close()
    while frames.get_write_buffer_size():
        await asyncio.sleep(_CLOSE_STEP_S)
