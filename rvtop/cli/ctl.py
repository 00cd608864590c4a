"""``rvtop ctl``: one command, or one question, to a session that was started with ``--control``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.errors import UserError
from rvtop.system.files import yaml_path
from rvtop.system.stdio import say

if TYPE_CHECKING:
    from rvtop.cli.options import SessionOptions
    from rvtop.session.control_client import ControlClient


def ctl(
    socket: Annotated[Path, typer.Argument(help="The socket of a session: what it was given by --control.")],
    command: Annotated[
        str,
        typer.Argument(
            help="rate, closed, pause, resume, phase, mark, slo, cancel, undo, retarget, workload, record, "
            "split, stop; snapshot, watch."
        ),
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[VALUE|NAME=VALUE]…", help="What the command takes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the session's own lines.")] = False,
) -> None:
    """Commands a running session: rvtop ctl SOCKET rate 20. Exit code 3 if none listens there."""
    from rvtop.contract.command import COMMANDS
    from rvtop.session.control import QUESTIONS
    from rvtop.session.control_client import ControlClient

    if command not in (*COMMANDS, *QUESTIONS):
        raise UserError(f"ctl {command}: unknown; known are: {', '.join((*COMMANDS, *QUESTIONS))}")
    fields = fields_from(command, words or [])
    if command == "record" and fields.get("file"):  # the session may run in another folder
        fields["file"] = str(yaml_path(fields["file"]))
    with ControlClient(socket) as client:
        if command == "watch":
            _watch(client, as_json=as_json)
            return
        client.send(command, fields)
        if command == "snapshot":
            _snapshot(client, as_json=as_json)
        else:
            line, answer = client.answer(command)
            at = f" (at {answer['at_s']:.2f} s)" if isinstance(answer.get("at_s"), int | float) else ""
            say(line if as_json else f"{answer['ok']}{at}")


def _snapshot(client: ControlClient, *, as_json: bool) -> None:
    from rvtop.plain import figures_line

    line, snapshot = client.snapshot()
    say(line if as_json else figures_line(snapshot))


def is_socket(path: str) -> bool:
    """Whether a target is the socket of a session."""
    return "://" not in path and Path(path).is_socket()


def watch(socket: Path, options: SessionOptions, *, dashboard: bool) -> int:
    """Shows a session of another terminal until it ends; returns the exit code. Raises UserError."""
    from rvtop.cli.serve import serving
    from rvtop.session.control_client import ControlClient

    with serving(options.web(), socket) as view:
        if dashboard:
            from rvtop.cli.dashboard import show_watched
            from rvtop.ui.sharing import Sharing

            url = view.url if view else ""
            return show_watched(socket, Sharing(options.readonly, joined=True, web_url=url))
        with ControlClient(socket) as client:
            _watch(client, as_json=False)
    return 0


def _watch(client: ControlClient, *, as_json: bool) -> None:
    from rvtop.contract.stream import SnapshotReader
    from rvtop.plain import Narrator

    reader, narrator = SnapshotReader(), Narrator(say)
    for line, message in client.watch():
        if as_json:
            say(line)
        elif (snapshot := reader.take(message)) is not None:
            narrator.look(snapshot)


def fields_from(command: str, words: list[str]) -> dict[str, Any]:
    """The fields of a command from ``20`` or ``rps=20``: values without a name are taken in the order of the
    command's fields. Raises UserError."""
    import dataclasses

    from rvtop.contract.command import COMMANDS, Mark

    if command == "rate" and any(word in ("in", "for") for word in words):
        return _rate_in_words(" ".join(words))
    kind = COMMANDS.get(command)
    known = {field.name: str(field.type) for field in dataclasses.fields(kind)} if kind is not None else {}
    free, fields = iter(known), {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.isidentifier()) or (kind is Mark and name not in known):
            name, text = next((each for each in free if each not in fields), ""), word
        if not name:
            takes = f"takes {', '.join(known)}" if known else "takes nothing"
            raise UserError(f"ctl {command} {word}: too much; {command} {takes}")
        if name in fields:
            raise UserError(f"ctl {command}: {name} is given twice")
        fields[name] = _value(text, known.get(name, ""))
    return fields


def _rate_in_words(text: str) -> dict[str, Any]:
    """The fields of ``40 in 30s`` or ``90 for 10s``, as the dashboard's ``g`` takes. Raises UserError."""
    import dataclasses

    from rvtop.ui.rate_phrase import Bounds, parse_phrase

    if "%" in text or text[:1] in "x×*":
        raise UserError(
            f"ctl rate {text}: give the rate as a number; a change of it is for the dashboard's g"
        )
    try:
        command = parse_phrase(text, Bounds())
    except ValueError as error:
        raise UserError(f"ctl rate {text}: {error}") from None
    return {name: value for name, value in dataclasses.asdict(command).items() if value is not None}


def _value(text: str, annotation: str) -> Any:
    import orjson

    if annotation.startswith("tuple"):
        return [part for part in text.split(",") if part]
    if annotation == "bool" and text in ("on", "off"):
        return text == "on"
    if annotation in ("float", "int", "float | None", "int | None", "bool"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text  # the session says what it must be
    return text
