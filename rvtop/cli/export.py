"""``rvtop export``: a run in the formats of other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.files import written_for
from rvtop.system.stdio import say, say_error


class Format(StrEnum):
    """What ``--format`` takes."""

    VLLM_BENCH = "vllm-bench"
    CSV = "csv"
    PARQUET = "parquet"
    TRACE = "trace"


def export(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    format: Annotated[
        str,
        typer.Option(
            metavar="vllm-bench|csv|parquet|trace|…",
            help="vllm-bench: the JSON of vllm bench serve --save-result; csv, parquet: a row a request; "
            "trace: what a scenario of kind: trace replays; or that of a plugin.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there; without it, to standard output.")
    ] = None,
) -> None:
    """Writes a run in the format of another tool."""
    from rvtop.results import export as formats
    from rvtop.results.lines import Unread

    unread = Unread(folder / "requests.jsonl")
    if format not in list(Format):
        _write(_added(format, folder), out)
    elif format == Format.PARQUET:
        if out is None:
            raise UserError("export --format parquet: is no text; give --out FILE")
        with written_for("--out", out) as part:
            formats.write_parquet(formats.request_rows(folder, unread), part)
    elif format == Format.CSV:
        _write(formats.csv_text(formats.request_rows(folder, unread)), out)
    elif format == Format.TRACE:
        from rvtop.results.trace import trace_of

        made = trace_of(folder, unread)
        if made.guessed:
            say_error(f"warning: {made.guessed:,} requests failed; their lengths are those of others")
        _write(made.lines(), out)
    else:
        import orjson

        run = formats.vllm_bench(folder)
        for note in run["rvtop"]["unread"]:
            say_error(f"warning: {note}")
        data = orjson.dumps(run, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        _write(iter([data.decode()]), out)
    if unread.count:
        say_error(f"warning: {unread}")
    if out is not None:
        say(f"export: {out}")


def _added(name: str, folder: Path) -> Iterator[str]:
    """The text of a plugin's format (docs/plugins.md). Raises UserError."""
    from rvtop.system.plugins import named, of_group

    if name not in of_group("exporters"):
        known = ", ".join([*Format, *of_group("exporters")])
        raise UserError(f"export --format {name}: unknown; known are: {known}")
    plugin = named("exporters", name, "export --format")
    make = plugin.load()
    try:
        yield from make(folder)
    except Exception as error:
        raise plugin.failed(error) from error


def _write(texts: Iterator[str], out: Path | None) -> None:
    if out is None:
        for text in texts:
            sys.stdout.write(text)
        sys.stdout.flush()
        return
    with written_for("--out", out) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.writelines(texts)
