"""The folders of the XDG base directory specification, and the files of ours in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Names another settings file.
CONFIG_ENV = "RVTOP_CONFIG"


def _folder(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """A folder of ours. A relative one in the environment is ignored, as the specification asks."""
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named) / "rvtop"
    return Path(environ.get("HOME") or Path.home()) / default / "rvtop"


def config_file(environ: Mapping[str, str]) -> Path:
    """``RVTOP_CONFIG``, else ``rvtop/config.yaml`` in XDG_CONFIG_HOME or ``~/.config``."""
    named = environ.get(CONFIG_ENV)
    return (
        Path(named).expanduser() if named else _folder(environ, "XDG_CONFIG_HOME", ".config") / "config.yaml"
    )


def themes_folder(environ: Mapping[str, str]) -> Path:
    """Where theme files lie: ``themes`` beside the settings file."""
    return config_file(environ).parent / "themes"


def state_folder(environ: Mapping[str, str]) -> Path:
    """What rvtop remembers from one run to the next: XDG_STATE_HOME or ``~/.local/state``."""
    return _folder(environ, "XDG_STATE_HOME", ".local/state")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """What may be deleted at any time: XDG_CACHE_HOME or ``~/.cache``."""
    return _folder(environ, "XDG_CACHE_HOME", ".cache")
