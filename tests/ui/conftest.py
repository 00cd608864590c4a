from __future__ import annotations

import time
from collections.abc import Iterator

import idle
import pytest
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

idle.install()

_parse_rules = Stylesheet._parse_rules
_parsed: dict[tuple[object, ...], list[RuleSet]] = {}


def _parsed_once(sheet: Stylesheet, *source: object, **how: object) -> list[RuleSet]:
    """The rules of a piece of CSS. Textual keeps them for as long as the app runs and its variables stay."""
    key = (source, frozenset(how.items()), frozenset(sheet._variables.items()))
    if key not in _parsed:
        _parsed[key] = _parse_rules(sheet, *source, **how)  # type: ignore[arg-type]
    return _parsed[key]


# Each app of a test would read the same CSS again, a tenth of its time.
Stylesheet._parse_rules = _parsed_once  # type: ignore[assignment, method-assign]


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Event times are local times: fix the zone, and what else of the environment shows on the screen."""
    monkeypatch.setenv("TZ", "UTC")
    for name in ("RVTOP_THEME", "COLORFGBG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
