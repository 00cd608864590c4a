"""A run in the formats of others: the JSON of ``vllm bench serve``, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.results import summary
from rvtop.results.lines import Unread, json_lines, read_lines
from rvtop.results.rows import check_command
from rvtop.results.table import NONE, Requests, read
from rvtop.stats.distribution import BUCKETS, middle_ns
from rvtop.text import printable, printable_json

#: A request's row in CSV and Parquet, and its type there. Times are whole ns from the run's start; gaps
#: between tokens stay in ``requests.jsonl``.
COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("id", "worker", "prompt", "turn", "target"), "int"),
    **dict.fromkeys(("phase", "model", "engine"), "str"),
    **dict.fromkeys(("intended_ns", "sent_ns", "headers_ns", "first_token_ns", "last_token_ns"), "int"),
    **dict.fromkeys(("prompt_tokens", "output_tokens", "cached_tokens", "chunks"), "int"),
    **dict.fromkeys(("token_source", "finish", "error", "error_text"), "str"),
    **dict.fromkeys(("lag_ms", "ttft_ms", "tpot_ms", "e2e_ms"), "float"),
    "arm": "str",
    **dict.fromkeys(("task", "step", "steps", "branch", "tool_ns"), "int"),
    "after": "str",
}
#: Columns of a request that is a step of a task of agents, and their keys in its ``task``.
_TASK = {"task": "id", "step": "step", "steps": "of", "branch": "branch", "tool_ns": "tool_ns"}
_INT64 = range(-(1 << 63), 1 << 63)


def vllm_bench(folder: Path) -> dict[str, Any]:
    """The run with the keys of ``vllm bench serve --save-result`` (0.29), which its tools read. Warm-up is
    left out. What that client never measures the same way is noted by rvtop's own key ``rvtop``.

    Latencies count from the intended time (there: from the send); ``duration`` is from the first intended
    time to the last token. Raises what ``summary.summarise`` does.
    """
    told: dict[str, Any] = printable_json(summary.summarise(folder))
    table = read(folder / run_files.REQUESTS, [])
    commands = read_lines(folder / run_files.COMMANDS, [], check_command)
    warm = {entry["name"] for entry in commands if entry["cmd"] == "phase" and entry["warmup"]}
    phases = [entry for entry in commands if entry["cmd"] == "phase" and not entry["warmup"]]
    only: Mapping[str, Any] = phases[0] if len(phases) == 1 else {}
    requests, tokens, kpm = told["requests"], told["tokens"], told["kpm"]
    duration = kpm["latency_total_s"]
    measured = np.isin(table.phase, [i for i, name in enumerate(table.phases) if name not in warm])
    rates = [value for value in (only.get("rate_from"), only.get("rate_to")) if value is not None]
    by_hand = any(entry["cmd"] == "rate" for entry in commands)
    return {
        "date": re.sub(r"[-:Z]", "", str(told["started_at"] or "")).replace("T", "-"),
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": told["topology"],
        "model_id": ", ".join(told["models"]) or None,
        "tokenizer_id": None,
        "num_prompts": requests["planned"],
        "request_rate": rates[0] if len(set(rates)) == 1 and not by_hand else told["rate"]["requested_rps"],
        "burstiness": only.get("burstiness"),
        "max_concurrency": only.get("concurrency") or only.get("max_in_flight"),
        "duration": duration,
        "completed": requests["ok"],
        "failed": requests["planned"] - requests["ok"],
        "total_input_tokens": tokens["input"],
        "total_output_tokens": tokens["output"],
        "request_throughput": _over(requests["ok"], duration),
        "request_goodput": told["goodput_rps"],
        "output_throughput": _over(tokens["output"], duration),
        "total_token_throughput": _over(_sum(tokens["input"], tokens["output"]), duration),
        "max_output_tokens_per_s": _most_tokens(folder, warm),
        "max_concurrent_requests": _most_at_once(table, measured),
        "rtfx": 0.0,
        **_latencies(told, table, measured),
        "rvtop": {
            "clock": "from the intended time",
            "client_limited": told["client_limited"],
            "unread": told["unread"],
        },
    }


def _latencies(told: Mapping[str, Any], table: Requests, measured: Any) -> dict[str, float | None]:
    good = measured & table.ok & (table.first != NONE)
    ttft = (table.first[good] - table.intended[good]) / 1e6
    rest, tokens = (table.last[good] - table.first[good]) / 1e6, table.output_tokens[good]
    stds = {
        "ttft": _std(ttft, None),
        "tpot": _std(rest[tokens > 1] / (tokens[tokens > 1] - 1), None),
        "itl": _std(np.array([middle_ns(i) / 1e6 for i in range(BUCKETS)]), _gaps(table, measured)),
    }
    figures: dict[str, float | None] = {}
    for name, std in stds.items():
        own = told[f"{name}_ms"]
        figures |= {
            f"mean_{name}_ms": own["mean"],
            f"median_{name}_ms": own["p50"],
            f"std_{name}_ms": std,
            f"p99_{name}_ms": own["p99"],
        }
    return figures


def _gaps(table: Requests, measured: Any) -> Any:
    """How often each bucket of gaps came in the measured phases, shape (BUCKETS,)."""
    phases = set(np.unique(table.phase[measured]).tolist())
    counts = [counts for (phase, _), counts in table.gaps.items() if phase in phases]
    return np.sum(counts, axis=0) if counts else np.zeros(BUCKETS, np.int64)


def _std(values: Any, weights: Any) -> float | None:
    """Standard deviation of the values, each ``weights`` times (None: once); None where there is none."""
    weights = np.ones(values.size) if weights is None else weights
    if not weights.sum():
        return None
    mean = np.average(values, weights=weights)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


def _most_tokens(folder: Path, warm: Collection[str]) -> float | None:
    rows = read_lines(folder / run_files.TIMELINE, [])
    rates = [row.get("tokens_per_s") for row in rows if row.get("phase") not in warm]
    return max((float(rate) for rate in rates if isinstance(rate, int | float)), default=None)


def _most_at_once(table: Requests, measured: Any) -> int:
    """The most requests that were in flight at one moment."""
    good = measured & (table.sent != NONE) & (table.last != NONE)
    times = np.concatenate([table.sent[good], table.last[good]])
    steps = np.concatenate([np.ones(good.sum(), np.int64), -np.ones(good.sum(), np.int64)])
    order = np.lexsort((steps, times))  # who ends at that moment makes room first
    return int(np.cumsum(steps[order]).max(initial=0))


def _over(count: float | None, seconds: float | None) -> float | None:
    return count / seconds if count is not None and seconds else None


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def request_rows(folder: Path, unread: Unread) -> Iterator[dict[str, Any]]:
    """A row of COLUMNS for each request, None for what a request has not. ``unread`` gets the lines that
    can't be read. Raises UserError where there is no file."""
    path = folder / run_files.REQUESTS
    try:
        for row in json_lines(path, unread):
            plain = {name: _of_type(row.get(name), kind) for name, kind in COLUMNS.items()}
            yield plain | _times(row) | _task(row.get("task"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the folder of a run") from error


def _of_type(value: Any, kind: str) -> int | str | None:
    if kind == "str":
        return None if value is None else printable(str(value))
    return value if type(value) is int and value in _INT64 else None


def _times(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The latencies of one request, ms; those of one that failed are None."""
    intended, sent, first, last = (
        _of_type(row.get(name), "int")
        for name in ("intended_ns", "sent_ns", "first_token_ns", "last_token_ns")
    )
    tokens = _of_type(row.get("output_tokens"), "int")
    good = not row.get("error") and None not in (intended, last)

    def ms(end: Any, begin: Any) -> float | None:
        return None if end is None or begin is None else (end - begin) / 1e6

    decode = ms(last, first)
    several = good and decode is not None and isinstance(tokens, int) and tokens > 1
    return {
        "lag_ms": ms(sent, intended),
        "ttft_ms": ms(first, intended) if good else None,
        "tpot_ms": decode / (tokens - 1) if several else None,  # type: ignore[operator]
        "e2e_ms": ms(last, intended) if good else None,
    }


def _task(told: Any) -> dict[str, int | str | None]:
    """Which step of which task of agents a request is; None where it is of none."""
    task: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    numbers = {name: _of_type(task.get(key), "int") for name, key in _TASK.items()}
    after = task.get("after")
    steps = [one for one in after if type(one) is int] if isinstance(after, list) else []
    return {**numbers, "after": " ".join(map(str, steps)) or None}


def csv_text(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Lines of CSV (RFC 4180) with a head. Nothing stands for None; ``'`` comes before what looks like a
    formula."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(COLUMNS))
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _no_formula(value) for name, value in row.items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _no_formula(value: Any) -> Any:
    """A spreadsheet computes what begins like a formula, and a server chose the text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """Writes the rows to ``path``. Raises UserError without pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UserError("export --format parquet: needs pyarrow: pip install 'rvtop[parquet]'") from None
    types = {"int": pa.int64(), "str": pa.string(), "float": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := [row for _, row in zip(range(50_000), rows, strict=False)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
