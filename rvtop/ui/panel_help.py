"""What the help tells of a panel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    what: str
    source: str


@dataclass(frozen=True, slots=True)
class PanelHelp:
    title: str
    about: str
    figures: tuple[Figure, ...]
