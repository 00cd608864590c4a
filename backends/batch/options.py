"""The command line of ``python -m backends.batch``: what one way is asked to do. Stdlib only."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from backends.errors import UsageError
from backends.settings import vllm
from backends.settings.options import DTYPES
from backends.settings.vllm import VllmOptions

HOWS = ("generate", "map-batches", "ray-data-llm")


@dataclass(frozen=True)
class BatchOptions:
    """What one way is asked to do. ``work``: the file of rows; ``source``: the model; ``engines`` of them,
    each fed with ``batch_size`` rows at a time (the Ray ways). ``threads`` None: each engine's part of the
    cores. ``ray_address`` None starts a local cluster. ``part``: which of several processes of ``generate``
    this is, each with an engine, for the GPUs that it takes."""

    how: str
    work: Path
    source: str
    engines: int = 1
    batch_size: int = 32
    dtype: str = "auto"
    threads: int | None = None
    max_model_len: int | None = None
    seed: int = 0
    trust_remote_code: bool = False
    ray_address: str | None = None
    vllm: VllmOptions = field(default_factory=VllmOptions)
    part: int = 0
    lease: bool = False


class _Parser(argparse.ArgumentParser):
    """Says what is wrong by UsageError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse_options(argv: Sequence[str]) -> BatchOptions:
    """Raises UsageError with one line that says what is wrong."""
    parser = _Parser(prog="python -P -m backends.batch", description=__doc__)
    add = parser.add_argument
    add("how", choices=HOWS)
    add("--work", type=Path, required=True, metavar="FILE", help="rows, as rvtop batch writes them")
    add("--model", required=True, metavar="SOURCE", help="model folder, Hub id or `tiny`")
    add("--engines", type=_at_least_one, default=1, metavar="N")
    add("--batch-size", type=_at_least_one, default=32, metavar="N", help="rows handed over at a time (Ray)")
    add("--dtype", choices=DTYPES, default="auto", help="of the weights")
    add("--threads", type=_at_least_one, metavar="N", help="CPU threads of each engine")
    add("--max-model-len", type=_at_least_one, metavar="N", help="context in tokens")
    add("--seed", type=int, default=0, help="of sampling, for rows without their own")
    add("--trust-remote-code", action="store_true", help="let a model folder run its own Python")
    add("--ray-address", metavar="auto|HOST:PORT", help="Ray cluster to attach to; none starts a local one")
    add("--part", type=int, default=0, metavar="I", help="which of --engines processes this is (generate)")
    add("--lease", action="store_true", help="stdin is a lease: a line every 2 s, else this process ends")
    vllm.add_arguments(parser)
    args = parser.parse_args(argv)
    return BatchOptions(
        how=args.how,
        work=args.work,
        source=args.model,
        engines=args.engines,
        batch_size=args.batch_size,
        dtype=args.dtype,
        threads=args.threads,
        max_model_len=args.max_model_len,
        seed=args.seed,
        trust_remote_code=args.trust_remote_code,
        ray_address=args.ray_address or os.environ.get("RAY_ADDRESS") or None,
        vllm=vllm.from_args(args),
        part=args.part,
        lease=args.lease,
    )


def _at_least_one(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value
