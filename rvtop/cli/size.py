"""``rvtop size``: what a model needs at a load, before anything is rented."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say

if TYPE_CHECKING:
    from rvtop.deploy.service_time import ServiceTime
    from rvtop.deploy.size import Line


def size(
    *,
    model: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the model (config.json, safetensors).")
    ],
    gpu: Annotated[str, typer.Option(metavar="NAME", help="B200, H200, H100, A100, L40S, A10G or L4.")],
    rps: Annotated[float, typer.Option(help="Requests a second, of all replicas.")],
    tokens_in: Annotated[int, typer.Option("--in", help="Prompt tokens of a request.")],
    tokens_out: Annotated[int, typer.Option("--out", help="Output tokens of a request.")],
    slo: Annotated[
        str, typer.Option(help="Limits to hold: ttft_p99=500,tpot_mean=50,e2e_p99=9000 (ms).")
    ] = "ttft_p99=1000",
    profile: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Run folder that service times are taken from; repeat: other rates."
        ),
    ] = None,
    tp: Annotated[int, typer.Option("--tp", help="GPUs that share a replica (tensor parallel).")] = 1,
    dtype: Annotated[str, typer.Option(help="auto, float32, float16, bfloat16 or fp8.")] = "auto",
    kv_dtype: Annotated[
        str, typer.Option("--kv-dtype", help="Data type of keys and values: auto or fp8.")
    ] = "auto",
    utilisation: Annotated[float, typer.Option(help="Share of a GPU that the engine takes.")] = 0.9,
    max_num_seqs: Annotated[int, typer.Option("--max-num-seqs", help="Most requests in a batch.")] = 256,
    variation: Annotated[
        float, typer.Option(help="Coefficient of variation of the lengths of answers; 0: all alike.")
    ] = 0.0,
    price: Annotated[
        float | None, typer.Option(help="Price of a GPU hour; default that of the settings.")
    ] = None,
    topology: Annotated[str, typer.Option(help="vllm or rsv: whose overhead a node has.")] = "rsv",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Estimates memory, GPUs and cost of a model at a load. Each line has its formula."""
    from rvtop.cli.config import settings_now
    from rvtop.deploy.model_files import read_model
    from rvtop.deploy.size import Asked, gpus
    from rvtop.deploy.size import size as sized
    from rvtop.study.choice_table import shipped

    known = gpus()
    if gpu.upper() not in known:
        raise UserError(f"--gpu {gpu}: not in the table; give one of {', '.join(known)}")
    counts = {"--in": tokens_in, "--out": tokens_out, "--tp": tp, "--max-num-seqs": max_num_seqs}
    for option, count in counts.items():
        if count < 1:
            raise UserError(f"{option} {count}: must be at least 1")
    for name, value, most in (("--rps", rps, 1e9), ("--utilisation", utilisation, 1.0)):
        if not 0 < value <= most:
            raise UserError(f"{name} {value:g}: must be above 0" + (" and at most 1" if most == 1 else ""))
    if not 0 <= variation < 100:
        raise UserError(f"--variation {variation:g}: must be at least 0; answers of one length have 0")
    for option, given in (("--dtype", dtype), ("--kv-dtype", kv_dtype)):
        if given != "auto" and given not in ("float32", "float16", "bfloat16", "fp8"):
            raise UserError(f"{option} {given}: must be auto, float32, float16, bfloat16 or fp8")
    overheads = shipped().topologies
    if topology not in overheads:
        raise UserError(f"--topology {topology}: must be one of {', '.join(overheads)}")
    found = read_model(model)
    if dtype == "auto":  # as vLLM: a checkpoint of 32 bits is served with 16
        dtype = "bfloat16" if found.dtype == "float32" else found.dtype
    asked = Asked(
        rps,
        tokens_in,
        tokens_out,
        _limits(slo),
        dtype,
        dtype if kv_dtype == "auto" else kv_dtype,
        tp,
        utilisation,
        max_num_seqs,
        variation,
        settings_now().price_per_gpu_hour if price is None else price,
        overheads[topology].overhead_bytes,
    )
    answer = sized(found, known[gpu.upper()], asked, _measured(profile or []))
    if as_json:
        import json

        rows = [{"name": line.name, "value": line.value, "unit": line.unit, "formula": line.formula}
                for line in answer.lines]  # fmt: skip
        say(json.dumps({"lines": rows, "why": answer.why}))
    else:
        for line in answer.lines:
            say(_text(line))
    if answer.why:
        raise UserError(f"size: {answer.why}", 1)


def _limits(slo: str) -> dict[str, float]:
    from rvtop.deploy.service_time import FIGURES
    from rvtop.session.search import parse_slo

    limits = {name: limit for name, limit in parse_slo(slo).items() if name != "error_rate"}
    for name in limits:
        if name not in FIGURES:
            raise UserError(f"--slo {name}: can't be told before a run; known here: {', '.join(FIGURES)}")
    return limits


def _measured(profile: list[Path]) -> ServiceTime | None:
    if not profile:
        return None
    from rvtop.deploy.size import measured
    from rvtop.results import summary

    try:
        return measured([summary.summarise(folder) for folder in profile])
    except ValueError as error:
        raise UserError(f"--profile {profile[0]}: {error}: give a run that was answered") from None


_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def _text(line: Line) -> str:
    value = "--" if line.value is None else _value(line.value, line.unit)
    return f"{line.name:<29} {value:>14}  {line.formula}"


def _value(value: float, unit: str) -> str:
    if unit.startswith("bytes"):
        size, name = next(((size, name) for size, name in _UNITS if value >= size), (1, "B"))
        return f"{value / size:.4g} {name}" if value < 9999.5 * size else f"{value / size:,.0f} {name}"
    if unit == "s":
        return f"{1000 * value:,.0f} ms" if value >= 1 else f"{1000 * value:.4g} ms"
    if unit == "money":
        return f"{value:.2f}"
    whole = value >= 999.5 or (unit == "count" and value >= 10)  # of which three digits are "1e+03"
    return f"{value:,.0f}" if whole else f"{value:.3g}"
