"""What ``--enable-per-request-metrics`` costs vLLM's server: CPU-microseconds a request, and their share of
all that a front process spends on one.

The flag adds one thing to a request: its last chunk is made with the request's times. Here that chunk is made
by vLLM's own code with and without them in turn, in one process. What a front process spends on a whole
request is measured by ``front_cost`` with RVC's, which spends less than vLLM's own: the share is an upper
bound. ``python -m tests.bench.request_metrics``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence

from tests.bench.front_cost import measure

_TURNS, _EACH = 15, 2000
LIMIT_PCT = 2.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints both, and whether the share is below the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    options = parser.parse_args(arguments)
    added = added_us()
    us_a_token, _ = asyncio.run(measure(100, options.tokens, 0.02, profile=False))
    whole = us_a_token * options.tokens
    share = 100 * added / whole
    print(f"--enable-per-request-metrics: {added:.2f} us a request more")
    print(f"of {whole:.0f} us a request of {options.tokens} tokens in one front process: {share:.2f} %")
    print(f"limit {LIMIT_PCT:g} %: {'held' if share < LIMIT_PCT else 'MISSED'}", flush=True)


def added_us() -> float:
    """CPU-microseconds that the times add to a request: the median of turns."""
    bare, timed = last_chunk(False), last_chunk(True)
    for make in (bare, timed):
        assert make()
    spent = [_spent_us(timed) - _spent_us(bare) for _ in range(_TURNS)]
    return statistics.median(spent)


def last_chunk(timed: bool) -> Callable[[], str]:
    """Makes the last chunk of a chat answer, as vLLM's ``chat_completion_stream_generator`` does."""
    from vllm.entrypoints.generate.base.serving import build_per_request_timing_metrics
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionStreamResponse
    from vllm.entrypoints.serve.engine.protocol import UsageInfo
    from vllm.v1.metrics.stats import RequestStateStats

    stats = RequestStateStats(
        num_generation_tokens=64, queued_ts=1.0, scheduled_ts=1.125, first_token_ts=1.25, last_token_ts=2.5
    )

    def make() -> str:
        metrics = build_per_request_timing_metrics(stats, 64) if timed else None
        usage = UsageInfo(prompt_tokens=300, completion_tokens=64, total_tokens=364)
        chunk = ChatCompletionStreamResponse(
            id="chatcmpl-1", created=1, choices=[], model="m", usage=usage, metrics=metrics
        )
        return str(chunk.model_dump_json(exclude_unset=True, exclude_none=True))

    return make


def _spent_us(make: Callable[[], str]) -> float:
    began = time.process_time_ns()
    for _ in range(_EACH):
        make()
    return (time.process_time_ns() - began) / _EACH / 1e3


if __name__ == "__main__":
    main()
