"""The command line: thin. Options become a SessionRequest; the work is done elsewhere.

A command that is long or one of a family has a file beside this one (``run.py``, ``deployments.py``,
``groups.py``); what they share is in ``options.py``.
Imports stay inside the commands, so that ``--help`` and a wrong option answer at once.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import rvtop
from rvtop.cli import light_typer
from rvtop.cli.ab import ab
from rvtop.cli.batch import batch
from rvtop.cli.choose import choose
from rvtop.cli.compare import compare_runs
from rvtop.cli.config import config_app
from rvtop.cli.ctl import ctl, is_socket, watch
from rvtop.cli.deploy import deploy_app
from rvtop.cli.deploy_k8s import compose, k8s
from rvtop.cli.deployments import down, logs, ps, up
from rvtop.cli.engine_options import words_of
from rvtop.cli.export import export
from rvtop.cli.groups import index_app, scenario_app
from rvtop.cli.help_pages import CommandsBySection, with_headings
from rvtop.cli.mcp import mcp
from rvtop.cli.option_groups import given, grouped
from rvtop.cli.options import (
    LookOptions,
    MaxRate,
    ModelNames,
    Served,
    SessionOptions,
    Ui,
    Yes,
    check_topology,
    check_ui,
    fail,
    go,
    no_screen,
    positive,
    probe_target,
    results_of,
    terminal,
)
from rvtop.cli.plugins import plugins
from rvtop.cli.quality import quality
from rvtop.cli.run import run
from rvtop.cli.set import set_defaults
from rvtop.cli.share import share
from rvtop.cli.showdown import SameForAll, compare, showdown
from rvtop.cli.size import size
from rvtop.cli.split import split
from rvtop.cli.sweep import sweep
from rvtop.cli.transport import (
    TargetOptions,
    body_from,
    kv_sources,
    load_key,
    metrics_urls,
    speaking,
    transport_from,
)
from rvtop.contract import run_files
from rvtop.errors import UserError, check_limits, unexpected
from rvtop.ipc.leave import leave
from rvtop.system import stdio
from rvtop.system.stdio import say, say_error

light_typer.install()
app = typer.Typer(
    add_completion=False,
    cls=CommandsBySection,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="htop for LLM serving on Ray and vLLM: live load, live figures. Without a command: "
    "a menu of what can be watched or started here.",
)
app.add_typer(scenario_app, name="scenario")
app.add_typer(index_app, name="index")
app.add_typer(config_app, name="config")
deploy_app.command()(k8s)
deploy_app.command()(compose)
app.add_typer(deploy_app, name="deploy")

#: What Typer raises for a wrong option. It carries a click of its own, so it is reached through Typer.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@app.callback(invoke_without_command=True)
@grouped
def root(
    *,
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    yes: Yes = False,
    look: LookOptions,
    topology: Annotated[
        str | None, typer.Option(help="Start this one, without the menu; it ends with rvtop.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="What it serves; repeat for several.")
    ] = None,
    backend_options: Annotated[
        str, typer.Option(help="Further options of python -m backends for it, as one text.")
    ] = "",
) -> None:
    """Without a command: the dashboard, to start a topology or attach to a server."""
    if version:
        say(f"rvtop {rvtop.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        ahead = {"--topology": topology, "--model": model, "--yes": yes, "--backend-options": backend_options}
        for option in [name for name, value in ahead.items() if value]:
            command = context.invoked_subcommand
            raise UserError(f"{option} stands behind the command: rvtop {command} … {option} …")
        return
    if (model or backend_options) and topology is None:
        option = "--model" if model else "--backend-options"
        raise UserError(f"{option} goes with --topology NAME here, or behind a command: rvtop run … {option}")
    if topology is not None:
        check_topology(topology)
    if why := no_screen():
        raise UserError(f"the dashboard needs a terminal ({why}); use: rvtop run, rvtop attach, rvtop demo")
    check_limits()
    from rvtop.cli.dashboard import pick
    from rvtop.contract.handle import Choice

    arguments = words_of(backend_options)
    first = None if topology is None else Choice(topology, None, tuple(model or ()), arguments)
    raise typer.Exit(results_of(*pick(yes=yes, first=first)))


@app.command()
@grouped
def demo(
    *,
    session: SessionOptions,
    ui: Ui = "dashboard",
    topology: Annotated[str, typer.Option(help="Topology to show.")] = "baseline",
    model: Served = None,
    look: LookOptions,
    every: Annotated[
        bool, typer.Option("--all", help="All topologies in turn, and their comparison.")
    ] = False,
) -> None:
    """Runs with no set-up: a small model, RAG questions, real load."""
    check_limits()
    from rvtop.session.request import shipped_request, topology_options
    from rvtop.target.preflight import check_backend

    check_ui(ui)
    session.check()
    check_topology(topology)
    if every:
        alone = {"--control": session.control, "--record": session.record}
        refused = [name for name, value in alone.items() if value is not None]
        refused += ["--readonly"] * session.readonly
        if topology != "baseline" or refused:
            option = refused[0] if refused else f"--topology {topology}"
            raise UserError(
                f"demo --all runs every topology in turn, each in its own session: without {option}"
            )
        if session.web() is not None:
            raise UserError("demo --all has no web view: run without --serve")
        raise typer.Exit(compare("demo", out=session.out, same=SameForAll(model), ui=ui))
    dashboard = ui == "dashboard" and terminal()
    backend = topology_options(topology, models=model or (), port=0, arguments=())
    check_backend(backend)
    request = shipped_request("demo", session.out, backend=backend, live=dashboard)
    raise typer.Exit(go(request, ui, session, yes=True))


@app.command()
@grouped
def attach(
    *,
    url: Annotated[
        str,
        typer.Argument(
            help="Any OpenAI-compatible server, as http://host:8000, or the socket of a session's --control."
        ),
    ],
    model: ModelNames = None,
    max_rate: MaxRate = None,
    yes: Yes = False,
    session: SessionOptions,
    ui: Ui = "dashboard",
    look: LookOptions,
    reach: TargetOptions,
) -> None:
    """Watches a server that is up; its rate starts at 0."""
    check_limits()
    check_ui(ui)
    session.check()
    if is_socket(url):
        theirs = {
            "--model": model,
            "--max-rate": max_rate,
            "--out": session.out,
            "--control": session.control,
            "--record": session.record,
        }
        for option in (*given(reach), *(name for name, value in theirs.items() if value is not None)):
            raise UserError(f"{option} goes with a URL: {url} is a session's socket, and it has its own")
        raise typer.Exit(watch(Path(url), session, dashboard=ui == "dashboard" and terminal()))
    from rvtop.session.request import attach_request, watch_scenario

    positive("--max-rate", max_rate)
    load_key(reach.api_key_file)
    transport = transport_from(url, reach)
    pages, fields = metrics_urls(reach.metrics_url), body_from(reach.body)
    published = kv_sources(reach.kv_events_url)
    request = attach_request(url, tuple(model or ()), pages, max_rate, session.out, transport, fields)
    work = None if reach.endpoint is None else speaking(watch_scenario(), reach)
    info_url = probe_target(url, request.models, transport, None if work is None else work.api)
    request = replace(request, scenario=work, url=info_url, kv_events=published)
    raise typer.Exit(go(request, ui, session, yes=yes))


app.command()(run)
app.command()(ctl)
app.command()(split)
app.command("set")(set_defaults)
app.command()(showdown)
app.command()(sweep)
app.command()(ab)
app.command()(choose)
app.command()(quality)
app.command()(batch)
app.command()(mcp)
app.command()(size)
app.command()(export)
app.command()(plugins)
app.command()(share)
app.command("compare")(compare_runs)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as a page that needs no other file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print its summary as JSON alone.")] = False,
    exclude_warm_up: Annotated[
        str | None,
        typer.Option(
            "--exclude-warm-up",
            metavar="auto|none",
            help="auto: from now on leave the warm-up that is found out; none: count it again.",
        ),
    ] = None,
) -> None:
    """Prints the figures of a run folder, also of a killed run."""
    import json

    from rvtop.cli.quality import report_quality
    from rvtop.plain import result_lines, warnings_of
    from rvtop.results import runlog, summary
    from rvtop.text import printable_json

    if report_quality(folder, html, as_json):
        return
    if exclude_warm_up is not None:
        from rvtop.cli.load_options import check_exclude_warm_up
        from rvtop.results.environment import note_flag

        check_exclude_warm_up(exclude_warm_up)
        note_flag(folder, "exclude_warm_up", exclude_warm_up)
    result = printable_json(summary.summarise(folder))  # a folder may be somebody else's
    for line in [json.dumps(result)] if as_json else result_lines(result, str(folder)):
        say(line)
    for line in (*warnings_of(result), *filter(None, [result["end"]["text"]])):
        say_error(line)
    try:
        runlog.write_json(folder / run_files.SUMMARY, result)
    except runlog.RunFolderError as error:  # its figures have been shown, which is what was asked for
        say_error(f"warning: {error}; these figures are not saved")
    if html is not None:
        from rvtop.results.html.page import run_page
        from rvtop.system.files import written_for

        page = run_page(folder, result)
        with written_for("--html", html) as part:
            part.write_text(page, "utf-8")
        if not as_json:
            say(f"report: {html}")


@app.command()
@grouped
def replay(
    *,
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    speed: Annotated[
        float, typer.Option(help="Speed at first: 0.25, 0.5, 1, 2, 4, 8, 16 or 32 times; [ and ] change it.")
    ] = 1.0,
    look: LookOptions,
) -> None:
    """Plays a stored run through the same screens. At any instant and speed; needs no server."""
    from rvtop.session.replay import SPEEDS

    if speed not in SPEEDS:
        raise UserError(f"--speed {speed:g}: must be one of {', '.join(f'{one:g}' for one in SPEEDS)}")
    if not terminal():
        raise UserError("a replay needs a terminal; rvtop report RUN prints the run's figures")
    from rvtop.cli.dashboard import show_replay

    raise typer.Exit(show_replay(folder, speed))


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(up)
for _command in (ps, logs, down):
    app.command()(_command)


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also connect to the Ray cluster.")] = False,
    k8s: Annotated[
        bool, typer.Option("--k8s", help="Instead of this machine, the cluster that kubectl talks to.")
    ] = False,
) -> None:
    """Checks this machine: versions, GPUs, ports, paths, limits, Ray. Exit code 1 if a check fails."""
    from rvtop.doctor import examine

    if deep and k8s:
        raise UserError("--deep is for this machine's Ray, --k8s for Kubernetes: give one of them")
    raise typer.Exit(examine(deep=deep, k8s=k8s, out=say))


with_headings(app)


def command() -> int:
    """Runs the command line; every refusal is one line. Returns the exit code (README lists them)."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        for line in error.lines:
            code = fail(line, error.exit_code)
    except _UsageError as error:
        text = error.format_message()  # type: ignore[attr-defined]
        code = fail(f"{text} ({_of_topology(error)}{_command_of(error)} --help lists what there is)", 2)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:  # noqa: BLE001 - whatever it is, its user gets one line
        known = unexpected(error)
        code = fail(str(known), known.exit_code)
    code = code if isinstance(code, int) else 0
    return 5 if code == 0 and stdio.output_lost() else code


def _command_of(error: Exception) -> str:
    """The command that was called in a wrong way: ``rvtop deploy k8s``."""
    names, context = list[str](), getattr(error, "ctx", None)
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(("rvtop", *names))


def _of_topology(error: Exception) -> str:
    """Where an unknown option may be meant for: a command that starts a topology hands it further ones."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    names = [name for one in getattr(command, "params", ()) for name in one.opts]
    unknown = getattr(error, "option_name", "")
    if not unknown or "--backend-options" not in names:
        return ""
    return f'a topology\'s own: --backend-options "{unknown} …"; '


def main() -> NoReturn:
    """The command line as a process: see ``__main__``."""
    stdio.set_up()
    leave(command())
