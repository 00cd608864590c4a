"""Which package may import which, as one order each; type-only imports count too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.unit.sources import nodes

ROOT = Path(__file__).parents[2]

#: Lowest first: a package imports only itself and what stands before it.
RVTOP = (
    *("text", "errors", "system", "settings", "stats", "contract", "ipc", "net", "load", "scenario"),
    *("workload", "target", "telemetry", "results", "lifecycle", "doctor", "deploy", "session", "study"),
    *("batch", "plain", "ui", "web", "mcp", "cli"),
)
BACKENDS = (
    *(
        "errors",
        "settings",
        "process",
        "scaling",
        "corpus",
        "models",
        "rag",
        "engines",
        "api",
        "rpc",
        "router",
    ),
    *("cluster", "serve", "stages", "vllm_server", "batch"),
    *("baseline", "rac", "rsc", "rsv", "rvc", "vllm", "graph", "registry", "cli"),
    "__main__",
)
#: The topologies stand side by side.
PEERS = {"baseline", "rac", "rsc", "rsv", "rvc", "vllm", "graph"}


#: Words of our own that the field's have replaced (poller, command, completed, WorkerFleet, EnginePool, …).
RETIRED = (
    *(
        "Crew",
        "crew",
        "hub",
        "on_word",
        "heard_ns",
        "astray",
        "on_astray",
        "aloft",
        "landed",
        "hurry",
        "unlearn",
    ),
    *(
        "heed_max_rate",
        "heed_in_flight",
        "Alarm",
        "Dial",
        "GuardedFolder",
        "keep_alive",
        "Seats",
        "share_out",
    ),
    *("obituary", "bury", "last_words", "let_go", "settled", "keeper", "hill"),
)


def modules(top: str) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """The modules of ``known`` that a file imports anywhere in it, each with its line."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        else:
            continue
        for name in names:
            if name in known:
                yield node.lineno, name


def layer(module: str) -> str:
    """The part of a module's name that the order speaks of; empty for the top package itself."""
    return module.split(".")[1] if "." in module else ""


def violations(top: str, order: tuple[str, ...]) -> list[str]:
    known = modules(top)
    found = []
    for module, path in known.items():
        here = layer(module)
        for line, imported in imports(path, known):
            there = layer(imported)
            if here == there or not there or not here:
                continue
            if order.index(there) > order.index(here) or {here, there} <= PEERS:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {imported}")
    return found


def test_rvtop_imports_only_what_stands_below() -> None:
    assert violations("rvtop", RVTOP) == []


def test_backends_import_only_what_stands_below() -> None:
    assert violations("backends", BACKENDS) == []


def rings(top: str) -> list[list[str]]:
    """Rings of imports between files, shortest names first (Tarjan's strongly connected components)."""
    known = modules(top)
    graph = {name: sorted({to for _, to in imports(path, known)} - {name}) for name, path in known.items()}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for to in graph[name]:
            if to not in number:
                visit(to)
                low[name] = min(low[name], low[to])
            elif to in stack:
                low[name] = min(low[name], number[to])
        if low[name] == number[name]:
            ring = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(ring) > 1:
                found.append(sorted(ring))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_no_files_import_each_other_in_a_ring() -> None:
    assert rings("rvtop") == []
    assert rings("backends") == []


def test_few_modules_lie_loose_and_none_is_long() -> None:
    """A stranger finds the room for a change by the packages' names, and reads any file in one sitting."""
    loose = {top: [path.name for path in sorted((ROOT / top).glob("*.py"))] for top in ("rvtop", "backends")}
    assert len(loose["rvtop"]) <= 4, loose["rvtop"]
    assert len(loose["backends"]) <= 11, loose["backends"]
    assert not [path for path in (ROOT / "rvtop" / "load").glob("*.py") if path.name != "__init__.py"]
    sources = [path for top in ("rvtop", "backends") for path in (ROOT / top).rglob("*.[pch]*")]
    sources = [path for path in sources if path.suffix in (".py", ".pyi", ".c", ".h")]
    long = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in sources}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_names_that_were_retired_stay_so() -> None:
    sources = [path for top in ("rvtop", "backends") for path in (ROOT / top).rglob("*.*")]
    sources = [path for path in sources if path.suffix in (".py", ".pyi", ".c", ".h")]
    assert sources
    word = re.compile(rf"(?<![\w-])_?(?:{'|'.join(RETIRED)})\b(?!=)")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if word.search(line)
    ]
    assert found == []
