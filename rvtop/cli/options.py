"""What the commands share: option types, checks, and how a request becomes a session with an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from rvtop.errors import UserError
from rvtop.system.files import FileFault, check_new, partial_of, yaml_path
from rvtop.system.stdio import forgive_lost_output, say, say_error
from rvtop.web import DRIVER

if TYPE_CHECKING:
    from rvtop.load.plan.api import Api
    from rvtop.net.transport import Transport
    from rvtop.scenario.schema import Scenario
    from rvtop.session.request import Outcome, SessionRequest
    from rvtop.web.client import WebOptions


def _set(variable: str) -> Callable[[Any], Any]:
    """A flag sets its environment variable, so that every process started later sees it."""

    def set_variable(value: Any) -> Any:
        if value:
            os.environ[variable] = "on" if value is True else str(value)
        return value

    return set_variable


def _new_yaml(path: Path | None) -> Path | None:
    """Where to write; refused before anything starts if that can't be."""
    if path is None:
        return None
    try:
        found = yaml_path(path)
        check_new(found)
        check_new(partial_of(found))  # of a session that was killed
    except FileFault as error:
        raise UserError(f"--record {error}") from None
    return found


Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", help="Model to send to, or with --topology what it serves, as name=path; repeat."
    ),
]
ModelNames = Annotated[
    list[str] | None, typer.Option("--model", help="Model to send to; repeat for several.")
]
Served = Annotated[
    list[str] | None, typer.Option("--model", help="What it serves, as name=path; repeat for several.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME-TIME.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Ray cluster: auto or HOST:PORT.")]
MaxRate = Annotated[
    float | None, typer.Option("--max-rate", help="Never send more requests a second than this.")
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Don't ask before the first load on a server that rvtop did not start.")
]
Ui = Annotated[str, typer.Option("--ui", help="dashboard, plain or none.")]


@dataclass(frozen=True)
class LookOptions:
    """How the screen is drawn. Their values go into the environment, where every child finds them."""

    heading: ClassVar[str] = "The screen"
    theme: Annotated[
        str | None,
        typer.Option(
            "--theme",
            help="auto, dark, light, contrast, safe, or a file of yours.",
            callback=_set("RVTOP_THEME"),
        ),
    ] = None
    ascii: Annotated[
        bool, typer.Option("--ascii", help="Draw with ASCII alone.", callback=_set("RVTOP_ASCII"))
    ] = False


@dataclass(frozen=True)
class SessionOptions:
    """Where a session writes, and who else sees and steers it: of every command that runs one."""

    heading: ClassVar[str] = "What the session writes, and who may watch or command it"
    out: Out = None
    control: Annotated[
        Path | None,
        typer.Option(
            "--control", help="Unix socket by which rvtop ctl and others watch and command the session."
        ),
    ] = None
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            help="Write a scenario file that repeats what the scenario and the keys did.",
            callback=_new_yaml,
        ),
    ] = None
    readonly: Annotated[
        bool, typer.Option("--readonly", help="The dashboard only watches: no key steers the session.")
    ] = False
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Show the session in browsers too, which may only watch; prints an address with a token.",
        ),
    ] = False
    serve_on: Annotated[
        str | None,
        typer.Option(
            "--serve-on",
            metavar="HOST:PORT",
            help="Where --serve listens; default 127.0.0.1 and a free port. Plain HTTP.",
        ),
    ] = None
    serve_control: Annotated[
        bool, typer.Option("--serve-control", help="With --serve: browsers may steer the session.")
    ] = False

    metrics_port: Annotated[
        str | None,
        typer.Option(
            "--metrics-port",
            metavar="[HOST:]PORT",
            help="Where Prometheus scrapes what the client measures; default host 127.0.0.1.",
        ),
    ] = None

    otlp: Annotated[
        str | None,
        typer.Option(
            "--otlp",
            metavar="URL",
            help="OpenTelemetry collector that gets a span of each request (OTLP over HTTP).",
        ),
    ] = None

    def check(self) -> None:
        """Raises UserError for what can't be served, before anything starts."""
        self.web()
        self.scraped()
        self.collector()

    def collector(self) -> str | None:
        """The URL of ``--otlp``. Raises UserError."""
        if self.otlp is None:
            return None
        from rvtop.session.otlp import check_installed, endpoint

        check_installed()
        endpoint(self.otlp)
        return self.otlp

    def scraped(self) -> tuple[str, int] | None:
        """Host and port of ``--metrics-port``. Raises UserError."""
        if self.metrics_port is None:
            return None
        if find_spec("prometheus_client") is None:
            raise UserError(
                "--metrics-port: prometheus_client is not installed; pip install 'rvtop[metrics]'"
            )
        from rvtop.session.metrics_page import place

        return place(self.metrics_port)

    def web(self) -> WebOptions | None:
        """What the three options of ``--serve`` say; None: no web view. Raises UserError."""
        if not (self.serve or self.serve_on is not None or self.serve_control):
            return None
        from rvtop.web.client import web_options

        return web_options(self.serve_on, control=self.serve_control)


def no_screen() -> str:
    """Why no dashboard can be drawn, in a few words; empty where one can."""
    if os.environ.get("TEXTUAL_DRIVER") == DRIVER:  # a viewer of --serve: a browser is its terminal
        return ""
    # Textual draws on stderr, so that one counts too.
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        return "no terminal"
    term = os.environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        return f"TERM={term}, a terminal without a movable cursor" if term else "TERM is not set"
    return ""


def terminal() -> bool:
    """Whether a dashboard can be drawn."""
    return not no_screen()


def scenario_named(name: str) -> Scenario:
    """A scenario by file or shipped name. Raises ScenarioError."""
    from rvtop.session.request import find

    return find(name)


def check_ui(ui: str) -> None:
    """Raises UserError for an unknown value of ``--ui``."""
    if ui not in ("dashboard", "plain", "none"):
        raise UserError(f"--ui {ui}: must be dashboard, plain or none")


def check_topology(name: str) -> None:
    """Raises UserError for an unknown topology."""
    from rvtop.target.topologies import TOPOLOGIES

    if name not in TOPOLOGIES:
        raise UserError(f"--topology {name}: unknown; known are: {', '.join(TOPOLOGIES)}")


def positive(name: str, value: float | None) -> None:
    """Raises UserError for an option's value that is not a finite number above 0."""
    if value is not None and not 0 < value < float("inf"):
        raise UserError(f"{name} {value:g}: must be a number greater than 0")


def seconds(name: str, text: str) -> float:
    """Seconds (> 0) of an option's ``10s``, ``500ms``, ``2m`` or ``10``. Raises UserError, naming it."""
    from rvtop.scenario.units import parse_duration

    try:
        value = parse_duration(text)
    except ValueError as error:
        raise UserError(f"{name} {text}: {error}") from None
    positive(name, value)
    return value


def probe_target(
    url: str, models: Collection[str], transport: Transport | None = None, api: Api | None = None
) -> str:
    """Checks the target before anything opens; returns its base URL. ``api``: what is to be spoken with it.
    Raises UserError."""
    import asyncio

    from rvtop.load.plan.api import Api
    from rvtop.target.probe import choose_models, probe
    from rvtop.target.served import check_served

    async def look() -> str:
        info, spoken = await probe(url, transport), api or Api()
        chosen = choose_models(info, models, unlisted=not spoken.generates)
        await check_served(info, spoken, chosen, transport)
        return info.url

    return asyncio.run(look())


def go(request: SessionRequest, ui: str, options: SessionOptions, *, yes: bool) -> int:
    """Runs a session with the chosen screen, and with ``--serve`` in browsers too; returns its exit code.
    Raises UserError."""
    from rvtop.cli.config import with_settings
    from rvtop.cli.serve import serving
    from rvtop.plain import run_plain

    request = replace(
        with_settings(request),
        control=options.control,
        record=options.record,
        metrics_port=options.scraped(),
        otlp=options.collector(),
    )
    why = no_screen() if ui == "dashboard" else ""
    if why.startswith("TERM"):  # in a pipe plain lines are what was meant
        say_error(f"plain lines instead of the dashboard: {why}")
    with serving(options.web(), options.control) as view:
        if view is not None:
            request = replace(request, control=view.socket)
        if ui == "dashboard" and not why:
            from rvtop.cli.dashboard import show
            from rvtop.ui.sharing import Sharing

            outcome = show(
                request, yes=yes, sharing=Sharing(options.readonly, web_url=view.url if view else "")
            )
        else:
            outcome = run_plain(request, quiet=ui == "none")
    return results_of(outcome, str(request.out), quiet=ui == "none")


def results_of(outcome: Outcome, folder: str, *, quiet: bool = False) -> int:
    """Prints what a session that has ended left in ``folder``, unless ``quiet``; returns its exit code."""
    from rvtop.plain import result_lines, warnings_of

    if outcome.summary is not None and not quiet:
        for line in result_lines(outcome.summary, folder):
            say(line)
    for line in warnings_of(outcome.summary) if outcome.summary is not None else ():
        say_error(line)
    forgive_lost_output()  # the results are in the run folder
    return code_of(outcome)


def code_of(outcome: Outcome) -> int:
    """The exit code of a session; its message, if it has one, goes to stderr."""
    return fail(outcome.message, outcome.exit_code) if outcome.message else outcome.exit_code


def fail(message: str, code: int) -> int:
    """One line on stderr; returns ``code``."""
    say_error(message)
    return code
