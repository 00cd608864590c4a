"""``rvtop quality``: the same questions to several topologies, and how far their answers agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.cli.option_groups import grouped
from rvtop.cli.options import Out
from rvtop.cli.showdown import SameForAll, listed_entries, names_and_reference
from rvtop.contract import run_files
from rvtop.errors import UserError, check_limits
from rvtop.system.files import written_for
from rvtop.system.stdio import say, say_error, say_nothing

if TYPE_CHECKING:
    from rvtop.study.quality import QualityRun
    from rvtop.study.turns import Say
    from rvtop.target.backend import BackendOptions


@grouped
def quality(
    *,
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    topologies: Annotated[
        str | None, typer.Option(help="Which, in this order; default baseline,rac,rsc,rvc.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Whose answers others are compared with; default rac, or the first.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Questions at most; default all.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an answer at most; default the scenario's.")
    ] = None,
    same: SameForAll,
    out: Out = None,
    ui: Annotated[str, typer.Option("--ui", help="plain or none.")] = "plain",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page of it that needs no other file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON alone.")] = False,
) -> None:
    """Asks topologies the same; says how far their answers agree. One question at a time, greedily."""
    if ui not in ("plain", "none"):
        raise UserError(f"--ui {ui}: must be plain or none")
    for option, number in (("--limit", limit), ("--max-tokens", max_tokens)):
        if number is not None and number < 1:
            raise UserError(f"{option} {number}: must be 1 or more")
    check_limits()
    from rvtop.session.request import default_out, find
    from rvtop.study.quality import QualityPlan, QualityRun

    names = topologies.split(",") if topologies is not None else None
    chosen, against = names_and_reference(names, reference)
    found = find(scenario)
    folder = out or default_out(f"quality-{found.name}")
    _check_folder(folder)
    entries = listed_entries(chosen, same)
    plan = QualityPlan(found, entries, against, folder, same.models, limit, max_tokens)
    run = QualityRun(plan)
    quiet = ui == "none" or as_json
    code = run_quality(run, say_nothing if quiet else say)
    _show(run, quiet=quiet, as_json=as_json, html=html)
    raise typer.Exit(code)


def run_quality(run: QualityRun, told: Say) -> int:
    """Runs it to its end, or until a signal comes; returns the exit code. Raises UserError."""
    import asyncio
    import signal

    from rvtop.study.quality import ask_all, started
    from rvtop.study.turns import INTERRUPTED
    from rvtop.target.preflight import check_backend

    def check(options: BackendOptions) -> None:
        check_backend(options, run.plan.scenario)

    async def main() -> bool:
        asking = asyncio.ensure_future(ask_all(run, started, check, told))
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(name) not in (signal.SIG_IGN, None):  # what nohup ignores stays ignored
                loop.add_signal_handler(name, asking.cancel)
        try:
            await asking
        except asyncio.CancelledError:
            return False
        return True

    return run.exit_code if asyncio.run(main()) else INTERRUPTED


def _show(run: QualityRun, *, quiet: bool, as_json: bool, html: Path | None) -> None:
    """What came of it, on the terminal and as a page."""
    from rvtop.results.quality import text_lines

    if not run.answers and not run.reasons:
        return  # interrupted before the first answer
    found = run.write()
    path = run.plan.out / run_files.QUALITY
    if as_json:
        say(path.read_text("utf-8").rstrip())
    elif not quiet:
        for line in (*text_lines(found), f"results: {path}"):
            say(line)
    if html is not None:
        _write_page(found, html)
    for name, reason in found["reasons"].items():
        say_error(f"{name}: {reason}")


def report_quality(folder: Path, html: Path | None, as_json: bool = False) -> bool:
    """Prints the quality check that a folder without a run holds; whether it holds one."""
    from rvtop.results.quality import read_quality, text_lines

    found = None if (folder / run_files.REQUESTS).exists() else read_quality(folder)
    if found is None:
        return False
    for line in [json.dumps(found)] if as_json else text_lines(found):
        say(line)
    if html is not None:
        _write_page(found, html)
        if not as_json:
            say(f"report: {html}")
    return True


def _write_page(found: Mapping[str, Any], html: Path) -> None:
    from rvtop.results.html.quality import quality_page

    with written_for("--html", html) as part:
        part.write_text(quality_page(found), "utf-8")


def _check_folder(folder: Path) -> None:
    """Raises UserError where answers or a run lie already."""
    if (folder / run_files.QUALITY).exists() or (folder / run_files.ANSWERS).exists():
        raise UserError(f"--out {folder}: holds a quality check already; give another folder")
    if (folder / run_files.REQUESTS).exists():
        raise UserError(f"--out {folder}: holds a run; give the folder it lies in, or another one")
