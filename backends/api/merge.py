"""Several generations as one stream, in the order in which their deltas come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merged(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Items of all sources, which run at once. The first failure ends them all and is raised; closing this
    closes them all."""
    items: asyncio.Queue[T | asyncio.Task[None]] = asyncio.Queue()  # a task: it has ended

    async def run(source: AsyncGenerator[T, None]) -> None:
        async with aclosing(source):
            async for item in source:
                items.put_nowait(item)

    tasks = [asyncio.create_task(run(source)) for source in sources]
    for task in tasks:
        task.add_done_callback(items.put_nowait)
    try:
        running = len(tasks)
        while running:
            item = await items.get()
            if isinstance(item, asyncio.Task):
                running -= 1
                item.result()
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
