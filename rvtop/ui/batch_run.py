"""Runs the screen of a batch on the terminal until it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rvtop.batch.job import Job
from rvtop.ui.batch_app import BatchApp
from rvtop.ui.look import Look
from rvtop.ui.run import run_app_async


def show_batch(job: Job, look: Look, end: Callable[[str], list[str]]) -> tuple[str, Sequence[str]]:
    """Runs ``job`` behind its screen; returns how it ended, and the lines that ``end`` gave for that. Raises
    UserError where a file could not be written."""

    async def main() -> tuple[str, Sequence[str]]:
        notes: list[str] = []

        def ended(kind: str) -> list[str]:
            notes[:] = end(kind)
            return notes

        app = BatchApp(job, look, ended)
        await run_app_async(app)
        if app.error is not None:
            raise app.error
        return app.how, notes or end(app.how)

    return asyncio.run(main())
