"""``python .ci/try_wheel.py WHEEL``: the wheel in a new venv of each Python that rvtop supports.

In each: the core is installed from wheels alone, with no compiler on the path and none of torch, Ray, vLLM;
the read path is the one in C; ``run smoke --target`` answers all of its requests on a mock server; ``attach``
watches it, on plain lines and as a dashboard in a terminal. A Python that is not on this machine is skipped
by name. Exit code 1 if anything fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mock.process import PythonMock  # noqa: E402

PYTHONS = ("3.11", "3.12", "3.13")
ABSENT = ("torch", "ray", "vllm", "faiss", "transformers")
LIMIT_S = 600.0
_CHECK = """\
import importlib.util as u, json, sys
from rvtop.load.native import loader
print(json.dumps({"native": loader.native(), "python": sys.version.split()[0], "at": loader.__file__,
                  "there": [name for name in sys.argv[1:] if u.find_spec(name)]}))
"""


class Wrong(Exception):
    """What did not go as it should, in one line."""


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine: on the path, or one of pyenv's, or one that uv has."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [shutil.which(f"python{version}")]
    found += [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)]
    if (uv := shutil.which("uv")) is not None:
        told = subprocess.run(
            [uv, "python", "find", "--offline", version], capture_output=True, text=True, check=False
        )
        found.append(told.stdout.strip() or None)
    return next((python for python in found if python and _is(python, version)), None)


def _is(python: str, version: str) -> bool:
    """Whether it runs (pyenv's shims may not), and makes venvs."""
    code = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def venv(python: str, wheel: Path, folder: Path) -> Path:
    """Its bin folder, with the wheel and what the core needs, all from wheels."""
    made = folder / "venv"
    _run([python, "-m", "venv", str(made)])
    pip = [str(made / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    _run([*pip, "--only-binary", ":all:", str(wheel)], {**os.environ, "CC": "false"})
    return made / "bin"


def environ(bin: Path, home: Path) -> dict[str, str]:
    """No compiler, no settings of this machine's user, no checkout."""
    home.mkdir(exist_ok=True)
    return {"PATH": str(bin), "HOME": str(home), "LC_ALL": "C.UTF-8", "CC": "false", "TERM": "xterm-256color"}


def try_python(version: str, python: str, wheel: Path, folder: Path) -> str:
    """All of it with one Python; what was seen, in one line. Raises Wrong."""
    bin = venv(python, wheel, folder)
    env, rvtop = environ(bin, folder / "home"), str(bin / "rvtop")
    told = json.loads(_run([str(bin / "python"), "-P", "-c", _CHECK, *ABSENT], env, folder))
    if told["there"]:
        raise Wrong(f"the core brought {', '.join(told['there'])}")
    if not told["native"] or not told["at"].startswith(str(folder)):
        raise Wrong(f"the read path is not the wheel's C ({told['at']})")
    shown = _run([rvtop, "--version"], env, folder).split()[-1]
    if shown not in wheel.name:
        raise Wrong(f"rvtop --version says {shown}")
    with PythonMock(ttft_ms=5, step_ms=2) as mock:
        out = folder / "run"
        _run([rvtop, "run", "smoke", "--target", mock.url, "--yes", "--out", str(out)], env, folder)
        summary = json.loads((out / "summary.json").read_text("utf-8"))
        if summary["end"]["kind"] != "done" or summary["requests"]["ok"] != summary["requests"]["planned"]:
            raise Wrong(f"smoke: {summary['end']}")
        watch_plain(rvtop, mock.url, env, folder)
        watch_dashboard(rvtop, mock.url, env, folder)
    return f"Python {told['python']}: smoke {summary['requests']['ok']} ok, attach, reads in C"


def watch_plain(rvtop: str, url: str, env: dict[str, str], folder: Path) -> None:
    """``attach`` in a pipe, until it is told to stop by ``ctl``."""
    control = str(folder / "s")
    words = [rvtop, "attach", url, "--yes", "--ui", "plain", "--control", control, "--out", str(folder / "a")]
    with subprocess.Popen(words, env=env, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + LIMIT_S
            while not os.path.exists(control) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            _run([rvtop, "ctl", control, "rate", "5"], env, folder)
            while not re.search(r" ok [1-9]", line := _run([rvtop, "ctl", control, "snapshot"], env, folder)):
                if time.monotonic() > until:
                    raise Wrong(f"attach: nothing was answered: {line}")
                time.sleep(1)
            _run([rvtop, "ctl", control, "stop"], env, folder)
            output, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        if process.returncode:
            raise Wrong(f"attach ended with {process.returncode}: {output[-300:]}")


def watch_dashboard(rvtop: str, url: str, env: dict[str, str], folder: Path) -> None:
    """``attach`` in a terminal of its own: it draws, and ends with q."""
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(rvtop, [rvtop, "attach", url, "--yes", "--out", str(folder / "d")], env)
    seen, until, asked = b"", time.monotonic() + LIMIT_S, False
    try:
        while time.monotonic() < until:
            if select.select([screen], [], [], 0.5)[0]:
                try:
                    seen += os.read(screen, 1 << 16)
                except OSError:  # the terminal's other end is closed
                    break
            if b"TTFT" in seen and not asked:
                asked = True
                os.write(screen, b"q")
        ended, status = os.waitpid(pid, 0 if asked and time.monotonic() < until else os.WNOHANG)
        if not ended or os.waitstatus_to_exitcode(status):
            raise Wrong(f"the dashboard ended with {status}, after {len(seen)} bytes")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.close(screen)


def _run(words: Sequence[str], env: dict[str, str] | None = None, folder: Path | None = None) -> str:
    done = subprocess.run(
        words, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise Wrong(f"{Path(words[0]).name} {words[1]} ended with {done.returncode}: {said}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only this one; repeat")
    given = parser.parse_args()
    failed = False
    for version in given.python or PYTHONS:
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: skipped, it is not on this machine", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="rvtop-try-") as name:
            try:
                print(try_python(version, python, given.wheel.resolve(), Path(name)), flush=True)
            except (Wrong, subprocess.TimeoutExpired) as error:
                failed = True
                print(f"Python {version}: {error}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
