"""Calls to Ray actors: their failures as one line, and as errors of :mod:`backends.errors`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from backends.errors import StartFailure


def first_lines(error: BaseException) -> str:
    """The cause of an error of Ray's in one line of at most 300 characters: its own texts are pages long."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__


@contextlib.contextmanager
def as_start_failure(engine: str) -> Iterator[None]:
    """Raises an actor's StartFailure (or UsageError) as it is, and any other error of Ray's as a StartFailure
    of this engine."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, StartFailure):
            raise error.cause from error
        raise StartFailure(f"{engine}: {first_lines(error)}") from error
    except RayError as error:
        raise StartFailure(f"{engine}: {first_lines(error)}") from error


@contextlib.asynccontextmanager
async def within(seconds: float, message: str) -> AsyncIterator[None]:
    """Raises StartFailure when the body takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StartFailure(f"{message} after {seconds:g} s") from None


async def kill(actor: Any) -> None:
    """Ends an actor's process at once, whatever state it is in."""
    import ray
    from ray.exceptions import RayError

    with contextlib.suppress(RayError):
        await asyncio.to_thread(ray.kill, actor)
