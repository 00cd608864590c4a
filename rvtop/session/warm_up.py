"""Requests to a server before load goes there, so that its first measured ones don't pay for its start."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from rvtop.contract.command import CommandError
from rvtop.load.plan.prompts import Prompts
from rvtop.load.wire.answer import answers_of
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from rvtop.load.wire.timeouts import Timeouts
from rvtop.text import printable

ROUNDS = 3
_MOST_TOKENS = 8
_LOOK_S = 0.005


def bodies(prompts: Prompts, models: int) -> list[bytes]:
    """What :func:`warm_up` sends, in its order."""
    prompts.limit_output(_MOST_TOKENS)
    return [prompts.body(number % len(prompts), model) for number in range(ROUNDS) for model in range(models)]


async def warm_up(target: Endpoint, prompts: Prompts, models: int, timeouts: Timeouts) -> None:
    """Sends the first prompts, one after another, to each of so many models, as the load would; answers are
    short. They are in no record. Raises CommandError for the first that fails."""
    prompts.limit_output(_MOST_TOKENS)
    ended: list[Record] = []
    pool = ConnectionPool(target, ended.append, answers=answers_of(prompts.api))
    limits = [timeouts.connect_s, timeouts.ttft_s or 60.0, timeouts.stall_s or 60.0]
    connect_ns, ttft_ns, stall_ns = (round(limit * 1e9) for limit in limits)
    try:
        for number in range(ROUNDS):
            ended.clear()
            for model in range(models):
                record = Record(number * models + model, 0, model, number % len(prompts), perf_counter_ns())
                body = prompts.body(record.prompt, model)
                pool.submit(record, target.request(body, f"rvtop-warm-up-{record.seq}"))
            while len(ended) < models:
                await asyncio.sleep(_LOOK_S)
                pool.sweep(perf_counter_ns(), connect_ns, ttft_ns, stall_ns)
            for record in ended:
                if record.error is not None:
                    text = printable(record.error_text, 200)
                    raise CommandError(f"a warm-up request failed ({record.error}): {text}")
    finally:
        pool.close()
