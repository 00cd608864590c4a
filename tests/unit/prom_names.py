"""Which names and labels a PromQL expression asks for, and which the recorded pages have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from tests.unit.telemetry_pages import golden

#: Recorded pages: of Ray up to 2.52, or of later ones.
PAGES = ("vllm_0.29_during", "hf", "dcgm", "ray_gpu", "panels")
RAY = {False: ("ray_2.60", "ray_2.60_busy", "ray_2.60_batch"), True: ("ray_2.44",)}
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"(?<![\w:$])([a-zA-Z_:][\w:]*)?\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_WORDS = {
    *("sum", "max", "min", "count", "group", "avg", "by", "on", "or", "and", "group_left", "unless", "rate"),
    *("increase", "histogram_quantile", "label_values", "max_over_time", "min_over_time"),
    *("last_over_time", "vector"),
}
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*")
_GROUPED = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")


@cache
def recorded(old: bool = False) -> dict[str, set[str]]:
    """The series of all pages, each with its labels."""
    found: dict[str, set[str]] = {}
    for page in (*PAGES, *RAY[old]):
        for line in golden(f"{page}.prom").splitlines():
            if line and not line.startswith("#"):
                name = re.split(r"[{\s]", line, maxsplit=1)[0]
                found.setdefault(name, set()).update(re.findall(r'(\w+)="', line))
    # Ray's pages were recorded without the buckets of latencies, which have the labels of the count.
    for name in [name for name in found if name.endswith("_ms_count")]:
        found.setdefault(f"{name.removesuffix('_count')}_bucket", found[name] | {"le"})
    return found


def _expanded(pattern: str) -> list[str]:
    """The names that a regular expression of ours stands for: ``(a|b)c``, or ``a|b``."""
    group = re.fullmatch(r"\(([^()]*)\)(\w*)", pattern)
    return [one + group[2] for one in group[1].split("|")] if group else pattern.split("|")


def asked_names(expr: str, old: bool = False) -> Iterator[tuple[str, set[str]]]:
    """Each name that an expression asks for, with the labels it matches. Of a regular expression the names
    that a page has count, and where none has one the first, which is missing then. A chain of ``or`` over
    older names asks for the first."""
    pages = recorded(old)
    bare = re.sub(r"\[[^\]]*\]", "", expr)
    for name, matchers in _SELECTOR.findall(bare):
        found = {label: (sign, value) for label, sign, value in _MATCHER.findall(matchers)}
        pattern = found.pop("__name__", None)
        names = [name] if pattern is None else _expanded(pattern[1])
        known = [one for one in names if one in pages]
        if not known and pattern is not None and _is_older(names):
            continue
        for one in known or names[:1]:
            yield one, set(found)
    rest = _SELECTOR.sub(" ", _GROUPED.sub(" ", bare))
    for name in _NAME.findall(_STRING.sub(" ", rest)):
        if name not in _WORDS:
            yield name, set()


def _is_older(names: list[str]) -> bool:
    """Whether these are a figure's older names, which the pages recorded last no longer have."""
    from rvtop.contract.figures import FIGURES

    older = tuple(suffix for figure in FIGURES for suffix in figure.suffixes[1:])
    return all(any(suffix in name for suffix in older) for name in names)


def labels_of(expr: str) -> set[str]:
    """The labels that an expression groups by, without a bucket's edge."""
    found = {label.strip() for part in _GROUPED.findall(expr) for label in part.split(",")}
    return found - {"", "le"}
