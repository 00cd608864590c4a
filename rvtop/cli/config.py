"""``rvtop config …``: the user's settings file."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say, say_error
from rvtop.text import printable

if TYPE_CHECKING:
    from rvtop.session.request import SessionRequest
    from rvtop.settings.load import Settings

config_app = typer.Typer(help="The settings file: init, print, path, validate.", rich_markup_mode=None)


def settings_now() -> Settings:
    """The settings in force, the keymap checked too. Raises SettingsError with every fault."""
    from rvtop.settings.load import load
    from rvtop.ui.keymap import keymap_faults

    return load(os.environ, keymap_faults=keymap_faults)


def with_settings(request: SessionRequest) -> SessionRequest:
    """The request with what the user's settings say of every session. Raises UserError."""
    return replace(with_prices(request), slo=settings_now().slo)


def with_prices(request: SessionRequest) -> SessionRequest:
    """The request with what the settings say of money and power. Raises UserError."""
    from rvtop.stats.prices import Prices

    found = settings_now()
    prices = Prices(found.price_per_gpu_hour, found.price_per_kwh, found.gpu_power_w, found.gpu_idle_w)
    return replace(request, prices=prices)


@config_app.command("path")
def path() -> None:
    """Prints where the settings file is looked for."""
    from rvtop.settings.paths import config_file

    say(printable(str(config_file(os.environ))))


@config_app.command("init")
def init(
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Writes a settings file, every setting as a comment."""
    from rvtop.settings.fields import commented
    from rvtop.settings.paths import config_file

    file = config_file(os.environ)
    if file.exists() and not force:
        raise UserError(f"{file}: is there already; --force writes over it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(commented(), "utf-8")
    except OSError as error:
        raise UserError(f"{file}: can't be written: {error.strerror}") from error
    say(printable(str(file)))


@config_app.command("print")
def print_settings() -> None:
    """Prints every setting in force and where it is from."""
    from rvtop.settings.fields import FIELDS

    found = settings_now()
    for field in FIELDS:
        group, _, inner = field.name.rpartition(".")
        value = found.slo.get(inner) if group else getattr(found, field.name)
        say(printable(f"{field.name:<20} {_shown(value):<24} {found.source[field.name]}"))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {' '.join(keys) or 'none'}" for name, keys in value.items()) or "--"
    return "--" if value is None else str(value)


@config_app.command("validate")
def validate() -> None:
    """Says every fault of the settings: file, line, key. Exit code 2 if there is one."""
    from rvtop.settings.load import SettingsError
    from rvtop.settings.paths import config_file
    from rvtop.ui.themes import styles_for

    try:
        found = settings_now()
    except SettingsError as error:
        for fault in error.faults:
            say_error(fault)
        raise typer.Exit(2) from None
    styles_for(found.theme, os.environ)
    file = config_file(os.environ)
    say(printable(f"{file}: {'ok' if file.exists() else 'not there; every setting has its default'}"))
