"""Themes: their contrast, how far apart their colours are for every eye, and which one a terminal gets."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
from driven import opened, screen_text, until

from rvtop.errors import UserError
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look, colours_of
from rvtop.ui.theme import ANSI, CONTRAST, DARK, LIGHT, MONO, ROLES, SAFE, MonoStyles, Palette, Styles
from rvtop.ui.themes import OURS, next_theme, styles_for, theme_of

#: Machado, Oliveira, Fernandes 2009: severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanope": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranope": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WRITTEN = ("text", "quiet", "client", "server", "command", "ghost", "trouble", "attention", "stale")
APART = ("client", "server", "trouble", "attention", "stale")


def linear(colour: str) -> np.ndarray:
    """``#rrggbb`` as linear RGB, 0..1."""
    s = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG's ratio of two colours' luminances."""
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = (TO_XYZ @ np.clip(rgb, 0, 1)) / (TO_XYZ @ np.ones(3))
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", OURS.values(), ids=lambda palette: palette.name)
@pytest.mark.parametrize("role", WRITTEN)
def test_text_can_be_read(palette: Palette, role: str) -> None:
    least = 7.0 if palette is CONTRAST else 4.5
    assert contrast(getattr(palette, role), palette.background) >= least


@pytest.mark.parametrize("sight", SIGHT)
def test_in_the_safe_theme_meanings_differ_for_every_eye(sight: str) -> None:
    seen = {role: lab(SIGHT[sight] @ linear(getattr(SAFE, role))) for role in APART}
    near = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in itertools.combinations(APART, 2)}
    assert {pair: distance for pair, distance in near.items() if distance < 19} == {}


@pytest.mark.parametrize("palette", OURS.values(), ids=lambda palette: palette.name)
def test_every_colour_lies_in_the_256_colours(palette: Palette) -> None:
    steps = {0, *range(0x5F, 0x100, 40)}
    greys = {8 + 10 * i for i in range(24)}
    for role in ROLES:
        r, g, b = (int(getattr(palette, role)[i : i + 2], 16) for i in (1, 3, 5))
        assert {r, g, b} <= steps or (r == g == b and r in greys), role


@pytest.mark.parametrize(
    ("name", "environ", "colours", "palette"),
    [
        ("auto", {}, 256, DARK),
        ("auto", {"COLORFGBG": "0;15"}, 256, LIGHT),
        ("auto", {"COLORFGBG": "15;0"}, 256, DARK),
        ("auto", {"COLORFGBG": "0;default;7"}, 256, LIGHT),
        ("safe", {"COLORFGBG": "0;15"}, 256, SAFE),
        ("contrast", {}, 256, CONTRAST),
        ("light", {}, 16, ANSI),
        ("light", {"NO_COLOR": "1"}, 256, MONO),
        ("light", {"NO_COLOR": ""}, 256, LIGHT),
    ],
)
def test_which_theme_a_terminal_gets(
    name: str, environ: dict[str, str], colours: int, palette: Palette
) -> None:
    assert styles_for(name, {"HOME": "/nowhere", **environ}, colours=colours).palette == palette


@pytest.mark.parametrize(
    ("environ", "colours"),
    [
        ({"TERM": "linux"}, 16),
        ({"TERM": "screen-16color"}, 16),
        ({"TERM": "xterm-256color"}, 256),
        ({"TERM": "linux", "COLORTERM": "truecolor"}, 1 << 24),
    ],
)
def test_how_many_colours_a_terminal_says_it_has(environ: dict[str, str], colours: int) -> None:
    assert colours_of(environ) == colours


def test_without_colour_attributes_say_it() -> None:
    styles = MonoStyles()
    assert not styles.client.underline
    assert styles.server.underline
    assert styles.command.bold
    assert styles.ghost.dim
    assert styles.stale.dim
    assert styles.trouble.reverse
    assert styles.attention.bold
    assert styles.attention.underline
    plain = [value for value in vars(styles).values() if hasattr(value, "color")]
    assert {style.color.name for style in plain} == {"default"}


@pytest.fixture
def themes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's theme files."""
    monkeypatch.setenv("RVTOP_CONFIG", str(tmp_path / "config.yaml"))
    folder = tmp_path / "themes"
    folder.mkdir()
    return folder


def test_a_theme_file_is_a_base_and_what_differs(themes: Path) -> None:
    (themes / "sea.yaml").write_text('base: light\nserver: "#00005f"\n')
    styles = styles_for("sea", os.environ)
    assert styles.palette == replace(LIGHT, name="sea", server="#00005f")
    with pytest.raises(UserError, match=r"theme see: there is none; did you mean sea\?"):
        styles_for("see", os.environ)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("base: solar\n", ":1: base: must be one of dark, light, contrast, safe, got solar"),
        ('base: dark\nsever: "#ffffff"\n', ":2: sever: unknown; did you mean server?"),
        ("client: yellow\n", ':1: client: must be a colour such as "#ffaf00", got yellow'),
    ],
)
def test_a_theme_file_that_is_wrong_says_where(themes: Path, text: str, why: str) -> None:
    (themes / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        theme_of(themes / "bad.yaml")
    assert str(refused.value) == f"{themes / 'bad.yaml'}{why}"


async def test_t_goes_through_all_themes_and_back(themes: Path) -> None:
    (themes / "sea.yaml").write_text('server: "#00005f"\n')
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app) as pilot:
        seen = []
        for _ in range(5):
            await pilot.press("T")
            seen.append(app.rich_styles.palette.name)
            assert app.theme == f"rvtop-{seen[-1]}"
            await until(pilot, lambda: f"theme {app.rich_styles.palette.name}" in screen_text(app))
            row = app.screen._compositor.render_strips()[1]
            behind = {s.style.bgcolor.name for s in row if s.style and s.style.bgcolor}
            assert behind == {app.rich_styles.palette.background}
        assert seen == ["light", "contrast", "safe", "sea", "dark"]


async def test_a_theme_file_that_changes_is_read_again(themes: Path) -> None:
    file = themes / "sea.yaml"
    file.write_text('server: "#00005f"\n')
    app = RvtopApp(made.FakeHandle(made.live()), look=Look(styles_for("sea", os.environ)))
    async with opened(app) as pilot:
        file.write_text('server: "#0000ff"\nclient: "#ffffaf"\n')
        app.reload_theme()
        await pilot.pause()
        assert app.rich_styles.palette.server == "#0000ff"
        file.write_text("server: blue, and more\n")
        app.reload_theme()
        await pilot.pause()
        assert "sea.yaml:1: serv" in screen_text(app)  # how much of it has room depends on the path
        assert app.rich_styles.palette.server == "#0000ff"
        file.unlink()
        app.reload_theme()
        assert app.is_running


@pytest.mark.parametrize("styles", [Styles(ANSI), MonoStyles()], ids=["16 colours", "no colour"])
async def test_a_terminal_of_few_colours_has_one_theme(styles: Styles) -> None:
    assert next_theme(styles, os.environ) is None
    app = RvtopApp(made.FakeHandle(made.live()), styles=styles)
    async with opened(app) as pilot:
        await pilot.press("T")
        assert "this terminal has one theme" in screen_text(app)
        await pilot.press("g")
        await until(pilot, lambda: "set the rate" in screen_text(app))
        colours = {
            segment.style.color.name
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style and segment.style.color and "#" in segment.style.color.name
        }
        assert colours == set()
