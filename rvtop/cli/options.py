"""What the commands share: option types, checks, and how a request becomes a session with an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.errors import UserError
from rvtop.system.files import FileFault, check_new, partial_of, yaml_path
from rvtop.system.stdio import forgive_lost_output, say, say_error
from rvtop.web import DRIVER

if TYPE_CHECKING:
    from rvtop.net.transport import Transport
    from rvtop.scenario.schema import Scenario
    from rvtop.session.request import Outcome, SessionRequest
    from rvtop.web.client import WebOptions


def _set(variable: str) -> Callable[[Any], Any]:
    """A flag that stands above its environment variable goes there: whatever starts later sees it."""

    def set_variable(value: Any) -> Any:
        if value:
            os.environ[variable] = "on" if value is True else str(value)
        return value

    return set_variable


def _new_yaml(path: Path | None) -> Path | None:
    """Where to write; refused before anything starts if that can't be."""
    if path is None:
        return None
    found = yaml_path(path)
    try:
        check_new(found)
        check_new(partial_of(found))  # of a session that was killed
    except FileFault as error:
        raise UserError(f"--record {error}") from None
    return found


Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="Model to send to (repeat for several); with --topology: name=path."),
]
MetricsUrls = Annotated[
    list[str] | None, typer.Option("--metrics-url", help="Prometheus page of the server, if not /metrics.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME-TIME.")]
MaxRate = Annotated[
    float | None, typer.Option("--max-rate", help="Never send more requests a second than this.")
]
Control = Annotated[
    Path | None,
    typer.Option(
        "--control", help="Unix socket by which rvtop ctl and others watch and command the session."
    ),
]
RecordTo = Annotated[
    Path | None,
    typer.Option(
        "--record",
        help="Scenario file to write, which does again what scenario and hands did.",
        callback=_new_yaml,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask before the first load on a server not ours.")]
Readonly = Annotated[
    bool, typer.Option("--readonly", help="The dashboard only watches: no key steers the session.")
]
Ui = Annotated[str, typer.Option("--ui", help="dashboard, plain or none.")]
Theme = Annotated[
    str | None,
    typer.Option(
        "--theme", help="auto, dark, light, contrast, safe, or a file of yours.", callback=_set("RVTOP_THEME")
    ),
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII alone.", callback=_set("RVTOP_ASCII"))]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Ray cluster: auto or HOST:PORT.")]
EngineArgs = Annotated[
    list[str] | None, typer.Option("--engine-arg", help="vLLM engine argument k=v; repeat.")
]
KeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", help="File with the target's API key (or set RVTOP_API_KEY).")
]


def backend_arguments(ray_address: str | None, engine_args: list[str] | None) -> list[str]:
    """The options of ``python -m backends`` that have one of their own here."""
    ray = ["--ray-address", ray_address] if ray_address is not None else []
    return ray + [part for text in engine_args or () for part in ("--engine-arg", text)]


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
    """Raises UserError for what ``--ui`` does not know."""
    if ui not in ("dashboard", "plain", "none"):
        raise UserError(f"--ui {ui}: must be dashboard, plain or none")


def check_topology(name: str) -> None:
    """Raises UserError for a topology that there is none of."""
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


def load_key(file: Path | None) -> None:
    """A key from a file goes where a key from the environment is: into our own environment."""
    if file is None:
        return
    from rvtop.system.files import read_regular
    from rvtop.target.probe import KEY_ENV

    try:
        key = read_regular(file).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"--api-key-file {file}: can't be read: it is not UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--api-key-file {file}: can't be read: {reason}") from error
    if not key:
        raise UserError(
            f"--api-key-file {file}: holds no key; write the key into it, or leave the option out"
        )
    os.environ[KEY_ENV] = key


def metrics_urls(given: list[str] | None) -> tuple[str, ...]:
    """The pages of ``--metrics-url``. Raises UserError for what is none, and where one holds a password:
    they are written down."""
    from urllib.parse import urlsplit

    from rvtop.target.probe import shown

    for url in given or ():
        try:
            sound = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
            urlsplit(url).port  # noqa: B018 - reading it is the check
        except ValueError:
            sound = False
        if not sound:
            raise UserError(f"--metrics-url {shown(url)}: must look like http://host:8000/metrics")
        if shown(url) != url:
            raise UserError(f"--metrics-url {shown(url)}: leave out the user name and password before the @")
    return tuple(given or ())


def probe_target(url: str, models: tuple[str, ...], transport: Transport | None = None) -> str:
    """Finds out before anything opens whether the target will do; returns its base URL."""
    import asyncio

    from rvtop.target.probe import choose_models, probe

    info = asyncio.run(probe(url, transport))
    choose_models(info, models)
    return info.url


def go(
    request: SessionRequest, ui: str, *, yes: bool, readonly: bool = False, web: WebOptions | None = None
) -> int:
    """Runs a session under the chosen reader, and with ``web`` in browsers too; returns its exit code."""
    from rvtop.cli.config import with_settings
    from rvtop.cli.serve import serving
    from rvtop.plain import result_lines, run_plain, warnings_of

    request = with_settings(request)
    why = no_screen() if ui == "dashboard" else ""
    if why.startswith("TERM"):  # in a pipe plain lines are what was meant
        say_error(f"plain lines instead of the dashboard: {why}")
    with serving(web, request.control) as view:
        if view is not None:
            request = replace(request, control=view.socket)
        if ui == "dashboard" and not why:
            from rvtop.cli.dashboard import show
            from rvtop.ui.sharing import Sharing

            outcome = show(request, yes=yes, sharing=Sharing(readonly, web_url=view.url if view else ""))
        else:
            outcome = run_plain(request, quiet=ui == "none")
    if outcome.summary is not None and ui != "none":
        for line in result_lines(outcome.summary, str(request.out)):
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
