"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line. ``fix``: what to do about it, when it is not ok."""

    name: str
    level: Level
    text: str
    fix: str = ""


def ok(name: str, text: str) -> Check:
    return Check(name, "ok", text)


def warn(name: str, text: str, fix: str) -> Check:
    return Check(name, "warn", text, fix)


def fail(name: str, text: str, fix: str) -> Check:
    return Check(name, "fail", text, fix)


def gib(size: float) -> str:
    """``23.4 GiB``, or MiB below one."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
