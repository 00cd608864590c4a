"""The settings file: what it may hold, which of several wins, and how its faults are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import rvtop.settings.fields
from rvtop.cli.app import app
from rvtop.cli.config import with_prices
from rvtop.session.request import SessionRequest
from rvtop.settings import recent
from rvtop.settings.fields import FIELDS, commented, json_schema
from rvtop.settings.load import Settings, SettingsError, load
from rvtop.settings.paths import cache_folder, config_file, state_folder, themes_folder
from rvtop.stats.prices import Prices
from rvtop.ui.keys import keymap_faults

Rvtop = Callable[..., tuple[int, str, str]]


def environ(tmp_path: Path, text: str | None = None, **more: str) -> dict[str, str]:
    """An environment whose settings file holds ``text``."""
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text, "utf-8")
    return {"HOME": str(tmp_path), "RVTOP_CONFIG": str(file), **more}


def test_where_files_lie(tmp_path: Path) -> None:
    assert config_file({"HOME": "/h"}) == Path("/h/.config/rvtop/config.yaml")
    assert config_file({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path("/x/rvtop/config.yaml")
    assert config_file({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}) == Path("/h/.config/rvtop/config.yaml")
    assert config_file({"HOME": "/h", "RVTOP_CONFIG": "/y/mine.yaml"}) == Path("/y/mine.yaml")
    assert themes_folder({"HOME": "/h", "RVTOP_CONFIG": "/y/mine.yaml"}) == Path("/y/themes")
    assert state_folder({"HOME": "/h"}) == Path("/h/.local/state/rvtop")
    assert cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/rvtop")


@pytest.mark.parametrize(
    "text", [None, "", "# nothing\n\n", commented()], ids=["no file", "empty", "comments", "init"]
)
def test_without_settings_each_has_its_default(tmp_path: Path, text: str | None) -> None:
    found = load(environ(tmp_path, text))
    assert (found.theme, found.ascii, found.motion, found.mouse) == ("auto", None, True, True)
    assert (found.keymap, found.slo, found.price_per_kwh) == ({}, {}, None)
    assert set(found.source.values()) == {"default"}


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    text = "theme: light\nmotion: off\nslo: {ttft_ms: 200}\nprice_per_kwh: 0.3\n"
    in_file = load(environ(tmp_path, text))
    assert (in_file.theme, in_file.motion, in_file.slo, in_file.price_per_kwh) == (
        "light",
        False,
        {"ttft_ms": 200.0},
        0.3,
    )
    assert in_file.source["theme"] == str(tmp_path / "config.yaml")
    env = environ(tmp_path, text, RVTOP_THEME="safe", RVTOP_MOTION="on", RVTOP_ASCII="1")
    assert (load(env).theme, load(env).motion, load(env).ascii) == ("safe", True, True)
    assert load(env).source["theme"] == "RVTOP_THEME"
    flagged = load(env, {"theme": "contrast", "ascii": None})
    assert (flagged.theme, flagged.ascii, flagged.source["theme"]) == ("contrast", True, "--theme")


def test_every_fault_is_told_with_its_line_and_key(tmp_path: Path) -> None:
    text = (
        "them: dark\nmotion: maybe\nslo:\n  ttft_ms: -3\n  tpot: 5\nprice_per_kwh: nan\n"
        'keymap:\n  "panel: zom": z\n  "panel: zoom": 7\n  help: h\n  palette: h\n'
    )
    env = environ(tmp_path, text, RVTOP_MOUSE="perhaps")
    with pytest.raises(SettingsError) as refused:
        load(env, keymap_faults=keymap_faults)
    file = env["RVTOP_CONFIG"]
    assert refused.value.faults == (
        f"{file}:1: them: unknown; did you mean theme?",
        f"{file}:2: motion: must be on or off, got maybe",
        f"{file}:4: slo.ttft_ms: must be a number > 0 (ms), got -3",
        f"{file}:5: slo.tpot: unknown; did you mean tpot_ms?",
        f"{file}:6: price_per_kwh: must be a number > 0 (per kWh), got nan",
        f"{file}:8: keymap.panel: zom: no such action; did you mean panel: zoom?",
        f"{file}:9: keymap.panel: zoom: must be a key or a list of keys, got 7",
        f"{file}:10: keymap.help: h would be the key of palette and of help; give one another",
        "RVTOP_MOUSE: must be on or off, got perhaps",
    )
    assert str(refused.value) == f"{refused.value.faults[0]} (8 more: rvtop config validate)"
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("theme: [\n", "not YAML"),
        ("- a\n", "must be keys and values"),
        ("theme: dark\ntheme: light\n", ":2: theme: given twice"),
        ("slo: 3\n", ":1: slo: must be keys and values"),
        ("keymap: 3\n", ":1: keymap: must be keys and values"),
        ("theme: ../secret\n", ":1: theme: must be a name"),
        ("theme: !!python/name:os.system\n", "tags"),
    ],
)
def test_files_that_are_refused_in_one_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        load(environ(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_the_schema_beside_the_table_is_that_of_the_table() -> None:
    file = Path(rvtop.settings.fields.__file__).with_name("settings.schema.json")
    assert json.loads(file.read_text("utf-8")) == json_schema()


def test_the_file_of_init_holds_every_setting_as_a_comment() -> None:
    text = commented()
    plain = "\n".join(
        line.removeprefix("# ")
        for line in text.splitlines()
        if line.endswith(("on", "1", "auto", "slo:", "]}"))
    )
    data = yaml.safe_load(plain)
    names = {f"{k}.{i}" for k, v in data.items() if k == "slo" for i in v} | (set(data) - {"slo"})
    assert names == {field.name for field in FIELDS}
    assert set(Settings.__dataclass_fields__) - {"source"} == {
        field.name.partition(".")[0] for field in FIELDS
    }


def test_targets_are_remembered_the_last_one_first(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    assert recent.recent_targets(env) == ()
    for url in ("http://a:1", "http://b:1", "http://a:1", *(f"http://n{i}:1" for i in range(9))):
        recent.remember_target(env, url)
    found = recent.recent_targets(env)
    assert found[0] == "http://n8:1"
    assert len(found) == recent.MOST == len(set(found))
    assert [path.name for path in state_folder(env).iterdir()] == ["targets"]
    (state_folder(env) / "targets").write_text("http://ok:1\nhttp://\x1b[2Jbad:1\n")
    assert recent.recent_targets(env) == ("http://ok:1",)


def test_a_place_that_can_not_be_written_forgets(tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("a file where a folder should be")
    recent.remember_target({"HOME": str(tmp_path)}, "http://a:1")
    assert recent.recent_targets({"HOME": str(tmp_path)}) == ()


# -- rvtop config ------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RVTOP_CONFIG", "XDG_CONFIG_HOME", "RVTOP_THEME", "RVTOP_ASCII", "NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".config" / "rvtop" / "config.yaml"


def test_config_writes_a_file_once_and_shows_what_is_in_force(home: Path, rvtop_here: Rvtop) -> None:
    assert rvtop_here("config", "path") == (0, f"{home}\n", "")
    code, out, _ = rvtop_here("config", "validate")
    assert (code, out) == (0, f"{home}: not there; every setting has its default\n")
    assert rvtop_here("config", "init") == (0, f"{home}\n", "")
    assert home.read_text("utf-8") == commented()
    code, _, error = rvtop_here("config", "init")
    assert (code, error) == (2, f"rvtop: {home}: is there already; --force writes over it\n")
    home.write_text('theme: safe\nslo: {tpot_ms: 50}\nkeymap: {"panel: zoom": [Z, ctrl+f]}\n')
    code, out, _ = rvtop_here("config", "print")
    shown = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert code == 0
    assert shown["theme"] == f"safe {home}"
    assert shown["slo.tpot_ms"] == f"50.0 {home}"
    assert shown["keymap"] == f"panel: zoom = Z ctrl+f {home}"
    assert shown["motion"] == "on default"
    assert rvtop_here("config", "validate")[:2] == (0, f"{home}: ok\n")


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (
            "motion: 3\nmouse: 4\n",
            [":1: motion: must be on or off, got 3", ":2: mouse: must be on or off, got 4"],
        ),
        ('keymap: {"panel: zoom": q}\n', [":1: keymap.panel: zoom: q would be the key of"]),
        ("keymap: {help: ctrl+c}\n", [":1: keymap.help: ctrl+c: this key can't be had"]),
        ("theme: solarised\n", ["theme solarised: there is none; known: auto, dark, light, contrast, safe"]),
    ],
)
def test_config_validate_tells_all_and_exits_with_2(
    home: Path, rvtop_here: Rvtop, text: str, errors: list[str]
) -> None:
    home.parent.mkdir(parents=True)
    home.write_text(text)
    code, out, error = rvtop_here("config", "validate")
    assert (code, out) == (2, "")
    lines = error.splitlines()
    assert len(lines) == len(errors)
    assert all(part in line for part, line in zip(errors, lines, strict=True))


def test_settings_cost_the_command_line_no_pydantic_and_no_yaml(home: Path) -> None:
    code = (
        "import sys, os, rvtop.cli.app, rvtop.ui.look, rvtop.settings.load as l; l.load(os.environ);"
        "print({'pydantic', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_flag_is_an_option_of_each_command_that_draws() -> None:
    for command in ([], ["demo"], ["attach"], ["run"]):
        text = CliRunner().invoke(app, [*command, "--help"]).output
        assert "--theme" in text
        assert "--ascii" in text


def test_the_slo_of_the_settings_is_for_scenarios_without_one() -> None:
    from rvtop.scenario.load import scenario_from
    from rvtop.session.request import with_slo

    phases = [{"name": "hold", "rate": 1, "duration": "1s"}]
    bare = scenario_from(
        {
            "name": "s",
            "phases": phases,
            "workload": {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 5},
        },
        "flags",
    )
    ours = with_slo(bare, {"ttft_ms": 200.0})
    assert ours.slo is not None
    assert (ours.slo.ttft_ms, ours.slo.tpot_ms) == (200.0, None)
    assert with_slo(bare, {}) is bare
    assert with_slo(ours, {"ttft_ms": 9.0}) is ours


def test_prices_and_powers_go_with_every_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "price_per_gpu_hour: 2.5\nprice_per_kwh: 0.2\ngpu_idle_w: 70\n"
    for name, value in environ(tmp_path, text).items():
        monkeypatch.setenv(name, value)
    request = with_prices(SessionRequest(scenario=None, out=tmp_path / "run"))
    assert request.prices == Prices(2.5, 0.2, None, 70.0)
    monkeypatch.setenv("RVTOP_CONFIG", str(tmp_path / "none.yaml"))
    assert with_prices(request).prices == Prices()
