"""Models by pattern: which of a server's models are meant, and what share of the requests each gets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

_GLOB = frozenset("*?[")


def is_pattern(name: str) -> bool:
    """Whether it may stand for several names: ``lora-*``."""
    return not _GLOB.isdisjoint(name)


def matching(wanted: Sequence[str], served: Sequence[str]) -> dict[str, str]:
    """Which of ``served`` each of ``wanted`` means, in their order: {name: what it was asked for by}. One
    that is named stands for itself, and a pattern for what no earlier entry and no name means. A pattern that
    matches nothing, and a name that is not served, is in no entry."""
    named = {name: name for name in wanted if name in served}
    found: dict[str, str] = {}
    for name in wanted:
        if name in named:
            found[name] = name
        elif is_pattern(name):
            new = [one for one in served if one not in found and one not in named and fnmatchcase(one, name)]
            found.update(dict.fromkeys(new, name))
    return found


def in_turn_words(wanted: Mapping[str, float], models: Sequence[str], served: Sequence[str]) -> str:
    """What of the shares does not hold on a server that lists ``served`` where ``models`` (names as they are
    shown) are sent to; "": all of them hold."""
    if not wanted:
        return ""
    gone = [name for name in wanted if name not in matching(list(wanted), served).values()]
    rest = "the others keep their shares" if shares_of(wanted, models) else "its models are asked in turn"
    if gone:
        return f"no share for {', '.join(gone)}, which it does not serve: {rest}"
    held = shares_of(wanted, models) or len(models) < 2
    return "" if held else f"the shares are not those of its models: {rest}"


def shares_of(wanted: Mapping[str, float], models: Sequence[str]) -> tuple[float, ...]:
    """The share of each of ``models`` (names as they are shown), of 1: a pattern's is divided evenly between
    all that it stands for. Empty where some of them have none, which are sent to in turn."""
    meant = matching(list(wanted), models)
    if len(meant) < len(models) or not models:
        return ()
    counts, total = Counter(meant.values()), sum(wanted[asked] for asked in set(meant.values()))
    return tuple(wanted[meant[model]] / counts[meant[model]] / total for model in models)
