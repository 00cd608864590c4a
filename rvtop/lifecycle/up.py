"""``rvtop up``: starts a supervisor, prints its steps, and leaves it alone once the deployment is ready."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rvtop.contract.snapshot import StartStep
from rvtop.contract.steps import step_line
from rvtop.errors import UserError
from rvtop.ipc import child
from rvtop.ipc.exit_reason import exit_reason
from rvtop.lifecycle import state
from rvtop.lifecycle.supervisor import Spec
from rvtop.system.log_tail import last_lines

_STOP_LIMIT_S = 45.0
_LOG_LINES = 15

Print = Callable[[str], None]


class UpFailed(UserError):
    """It did not come up, and nothing of it runs."""


def up(
    topology: str,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    models: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
    out: Print = print,
) -> None:
    """Starts a deployment and returns when it is ready. Raises UserError (exit code 2 or 4) with nothing left
    running; so does Ctrl-C, by KeyboardInterrupt."""
    name = name or topology
    _refuse_if_known(name)
    folder = state.make_folder(name)
    log = folder / state.LOG_FILE
    with suppress(FileNotFoundError):  # of one that crashed
        log.replace(log.with_name(f"{log.name}.1"))
    spec = Spec(name, secrets.token_hex(8), topology, host, port, models, arguments)
    began = time.monotonic()
    with _supervisor(log) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
        process.stdin.flush()
        ready = _follow_steps(process, name, out)
        process.stdin.write(b"keep\n")
        process.stdin.flush()
    url, served = ready["url"], tuple(ready["models"])
    out(f"{name} is up at {url} after {time.monotonic() - began:.1f} s (models: {', '.join(served)})")
    chosen = "".join(f" --model {model}" for model in served) if len(served) > 1 else ""
    out(f"  attach: rvtop attach {url}{chosen}    log: rvtop logs {name}    stop: rvtop down {name}")


def _refuse_if_known(name: str) -> None:
    known = state.entry(name)
    if known is not None and known.running:
        where = f"up at {known.url}" if known.url else known.state
        raise UserError(f"{name} is {where} already; rvtop down {name} first, or give this one --name")


def _follow_steps(process: subprocess.Popen[bytes], name: str, out: Print) -> dict[str, Any]:
    """Prints the steps until it is ready; the event that says so. Raises UpFailed."""
    assert process.stdout is not None
    printed: dict[str, str] = {}
    for line in process.stdout:
        event = json.loads(line)
        if event.pop("event") == "step":
            step = StartStep(**event)
            if printed.get(step.name) != step.state:
                printed[step.name] = step.state
                out(step_line(step))
        elif "url" in event:
            return dict(event)
        else:
            process.wait()  # it says so last; then nothing runs any more
            if event["code"] == 2:
                raise UpFailed(event["message"], 2)
            raise _failure(event["message"], name, out)
    code = process.wait()
    if state.entry(name) is None:  # else there may be something for `down` to end
        state.forget(state.folder_of(name))
    raise _failure(f"the supervisor crashed ({exit_reason(code)})", name, out)


def _failure(message: str, name: str, out: Print) -> UpFailed:
    log = state.log_of(name)
    for line in last_lines(log, _LOG_LINES):
        out(f"  | {line}")
    return UpFailed(f"{message} (its log: {log})", 4)


@contextmanager
def _supervisor(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor. Whatever ends the body early ends it too, and waits for that."""
    with child.open_log(log, 0o600) as stderr:
        process = subprocess.Popen(
            child.module_command("rvtop.lifecycle.supervisor"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield process
    except BaseException:
        try:
            process.communicate(timeout=_STOP_LIMIT_S)  # closes its stdin: it takes everything down
        except subprocess.TimeoutExpired:
            process.kill()  # the lease does the rest
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
