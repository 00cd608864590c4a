"""The three ways of `rvtop batch` on one set of rows: rows/s, tokens/s, how full the batch was, and whether
they computed the same; ``python -m tests.bench.batch [--rows N] [--longest N] [--places N] [--model M]``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.models.load import resolve_model
from tests.backends.batch_rows import answers, check_poison, ties, write_rows
from tests.backends.reference import load

_BATCH = 32
_ASKED = 1.2  # times map_batches(32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row a way, the ratios, and what explains them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--longest", type=int, default=512)
    parser.add_argument("--places", type=int, default=32, help="max_num_seqs")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, help="keep the results here")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder, "out")
        file = Path(folder, "rows.jsonl")
        good = write_rows(file, args.rows, args.longest)
        model = str(resolve_model(args.model))
        words = ["--how", "all", "--model", model, "--out", str(out), "--dtype", "float32", "--ui", "plain"]
        words += ["--max-num-seqs", str(args.places), "--batch-size", str(_BATCH), "--threads", "1"]
        subprocess.run([sys.executable, "-P", "-m", "rvtop.cli", "batch", str(file), *words], check=True)
        ways = json.loads((out / "summary.json").read_text("utf-8"))["ways"]
        found = {how: answers(out / how) for how in ways}
        first = found["generate"]
        loaded = load(Path(model))
        for how in ways:
            check_poison(out / how)
            assert set(found[how]) == set(good), f"{how}: {len(found[how])} of {len(good)} rows"
            tied = ties(file, first, found[how], loaded)
            print(f"batch: {how}: {len(good) - len(tied)} of {len(good)} rows as generate, {len(tied)} ties")
        for line in _compared(ways):
            print(f"batch: {line}")


def _compared(ways: dict[str, Any]) -> list[str]:
    rate = {how: way["tokens_per_s"] for how, way in ways.items()}
    others = max(rate["generate"], rate["map-batches"])
    best, batches = rate["ray-data-llm"] / others, rate["ray-data-llm"] / rate["map-batches"]
    lines = [f"ray-data-llm {best:.2f} times the best other, {batches:.2f} times map_batches({_BATCH})"]
    if best < 1 or batches < _ASKED:
        for how, way in ways.items():
            idle, at_once = way["run_s"] - way["in_steps_s"], way["sequences_a_step"]
            steps = f"{way['steps']} steps of {way['step_ms']:.2f} ms with {at_once:.1f} sequences each"
            lines.append(
                f"why: {how}: {steps} ({way['step_ms'] / at_once:.3f} ms a token), {idle:.2f} s outside"
            )
    return lines


if __name__ == "__main__":
    main()
