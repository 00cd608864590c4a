"""Facts in the pages held to the code: commands, options, scenarios and their keys, the order of packages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from backends.cli import _parser
from rvtop.cli.app import app
from rvtop.scenario.load import scenario_from
from tests.unit.test_layers import BACKENDS, RVTOP
from tests.unit.test_release import PAGES, ROOT

#: CHANGELOG also names options that are gone.
HELD = [page for page in PAGES if page.name != "CHANGELOG.md"]
#: Commands whose first word is a scenario: a shipped one where it is written like one.
OF_SCENARIOS = [*((name,) for name in ("run", "showdown", "sweep", "quality")), ("scenario", "explain")]
SHIPPED = {path.stem for path in (ROOT / "scenarios").glob("*.yaml")}
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")


def options_by_command() -> dict[tuple[str, ...], set[str]]:
    """The options of every command, by its words; () is ``rvtop`` itself."""
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command: typer.core.TyperCommand, words: tuple[str, ...]) -> None:
        found[words] = {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())  # type: ignore[arg-type]
    return found


COMMANDS = options_by_command()
BACKEND = {option for action in _parser()._actions for option in action.option_strings}


def command_lines(text: str) -> Iterator[str]:
    """What follows ``rvtop`` in code blocks and between backticks, without comments."""
    fence = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
    for block in fence.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"\s#\s", line)[0].split("; "):
                if found := re.match(r"\$? ?(?:[A-Z_]+=\S+ )?rvtop (.+)", command.strip()):
                    yield found[1]
    for code in re.findall(r"`([^`\n]+)`", fence.sub("", text)):
        if code.startswith("rvtop "):
            yield code.removeprefix("rvtop ")


def wrong(line: str) -> list[str]:
    """What ``rvtop LINE`` names and rvtop has not."""
    words = line.split()
    if words[0].startswith("-"):
        command: tuple[str, ...] = ()
    elif (words[0],) in COMMANDS:
        command = (words[0],)
    else:
        return [words[0]]
    while (longer := (*command, *words[len(command) : len(command) + 1])) in COMMANDS and longer != command:
        command = longer
    if command[:1] == ("index",):  # hands them on
        return []
    name = words[len(command)] if len(words) > len(command) else ""
    if command in OF_SCENARIOS and re.fullmatch(r"[a-z][a-z-]*", name) and name not in SHIPPED:
        return [f"{' '.join(command)} {name}"]
    known = COMMANDS[command]
    if command == ("up",) or "--backend-options" in words:
        known = known | BACKEND
    return [f"{' '.join(command)} {option}" for option in OPTION.findall(line) if option not in known]


@pytest.mark.parametrize("page", HELD, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_s_commands_are_there_with_their_options(page: Path) -> None:
    assert [fault for line in command_lines(page.read_text("utf-8")) for fault in wrong(line)] == []


def test_what_is_not_there_is_found() -> None:
    block = "```\nrvtop run smoke --rats 3  # --no\nrvtop run smoky\nrvtop go; rvtop up rac --grpc 1\n```\n"
    lines = command_lines(block + "`rvtop ps --all`")
    assert [wrong(line) for line in lines] == [["run --rats"], ["run smoky"], ["go"], [], ["ps --all"]]


def test_the_order_of_packages_in_the_architecture_is_the_tested_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for name, order in (("rvtop", RVTOP), ("backends", BACKENDS)):
        line = re.search(rf"^{name}: +(.+)$", text, re.MULTILINE)
        assert line is not None
        assert line[1].replace("│", " ").split() == list(order)


def test_every_key_of_a_scenario_is_on_a_page() -> None:
    docs = ROOT / "docs"
    text = "".join((docs / f"{name}.md").read_text("utf-8") for name in ("scenarios", "agents", "recording"))
    named = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}
    named |= set(
        re.findall(r"\b(\w+):", "".join(re.findall(r"^```yaml.*?^```", text, re.DOTALL | re.MULTILINE)))
    )
    schema = json.loads((ROOT / "rvtop" / "scenario" / "scenario.schema.json").read_text("utf-8"))
    parts = [schema, *schema["$defs"].values()]
    keys = {
        key
        for part in parts
        for shape in (part, *part.get("anyOf", ()))
        for key in shape.get("properties", ())
    }
    assert {"prefix_share", "burstiness", "at", "thresholds"} <= keys
    assert sorted(keys - named) == []


def test_every_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    folders = {
        path.parent.name for top in ("rvtop", "backends") for path in (ROOT / top).glob("*/__init__.py")
    }
    assert sorted(name for name in folders if f"{name}/`" not in rows) == []


def test_scenarios_in_the_pages_are_sound() -> None:
    found = 0
    for page in HELD:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            if "workload:" in block and "phases:" in block:
                scenario_from({"name": page.stem, **yaml.safe_load(block)}, str(page))
                found += 1
    assert found >= 4
