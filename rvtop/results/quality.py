"""A quality check as it is stored, and as lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvtop.contract import run_files
from rvtop.text import digits, printable_json

#: What a row tells, with the head of its column; ``cells`` gives them in this order.
HEADS = (
    *("answered", "same", "overlap", "least", "1st diff", "empty", "cut off", "script", "words", "tokens"),
)
#: What each column says, for a page.
MEANINGS = {
    "answered": "questions that were answered, of those asked",
    "same": "answers that are the reference's to the letter, of those that both gave",
    "overlap": "words in common with the reference's answer (twice those in both, over those of each): mean",
    "least": "the least overlap of one answer",
    "1st diff": "the first word, from 0, that is not the reference's: median of the answers that differ",
    "empty": "answers in which nothing is to be read",
    "cut off": "answers that ended at the limit of tokens",
    "script": "answers in the script of their question, of those with letters",
    "words": "words and signs of an answer: mean",
    "tokens": "tokens of an answer by the server's count: mean",
}
_NAME, _WIDTH = 22, 10
_SHOWN = 3
#: Characters of an answer in the terminal, from a little before where it differs.
_MOST_TEXT = 160


def read_quality(folder: Path) -> dict[str, Any] | None:
    """The quality check in a folder, printable; None where there is none that can be read."""
    try:
        found = json.loads((folder / run_files.QUALITY).read_text("utf-8"))
        text_lines(found)
        [(one["id"], share(one["overlap"])) for one in found["shown"]]
        dict(found["reasons"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return dict(printable_json(found))


def quality_of_run(folder: Path) -> dict[str, Any] | None:
    """The quality check that belongs to a run: beside its study's other runs, or in the run's own folder."""
    return read_quality(folder) or read_quality(folder.absolute().parent)


def cells(row: Mapping[str, Any]) -> list[str]:
    """What a row tells, by ``HEADS``."""
    compared = row["compared"]
    return [
        f"{row['answered']}/{row['asked']}",
        f"{row['identical']}/{compared}" if compared else "--",
        share(row["overlap_mean"]),
        share(row["overlap_min"]),
        digits(row["first_divergence_median"]),
        str(row["empty"]),
        str(row["cut_off"]),
        f"{row['script_of_question']}/{row['script_known']}" if row["script_known"] else "--",
        digits(row["words_mean"]),
        digits(row["tokens_mean"]),
    ]


def name_of(row: Mapping[str, Any], reference: str) -> str:
    """What a row is called."""
    marked = " (reference)" if row["name"] == reference else ""
    return f"{row['name']}{marked} {row['model']}"


def head_line(found: Mapping[str, Any]) -> str:
    """What was asked, and what was retrieved for it."""
    known, hit = found["retrieval"]["known"], found["retrieval"]["hit"]
    told = f"{hit}/{known} hold the answer" if known else "--"
    return f"{found['questions']} questions of {found['scenario']}; retrieved contexts: {told}"


def text_lines(found: Mapping[str, Any]) -> list[str]:
    """The check as lines: a table, then the answers that differ most."""
    reference = found["reference"]
    lines = [head_line(found), " " * _NAME + "".join(f"{head:>{_WIDTH}}" for head in HEADS)]
    for row in found["rows"]:
        name = name_of(row, reference)
        own = "".join(f"{cell:>{_WIDTH}}" for cell in cells(row))
        lines += [f"{name:<{_NAME}}{own}"] if len(name) < _NAME else [name, " " * _NAME + own]
        lines += [f"  {kind}: {count}" for kind, count in row["errors"].items()]
    apart = found["shown"][:_SHOWN]
    if apart:
        lines.append(f"{found['differing']} of the answers differ from {reference}'s; the least alike:")
    for one in apart:
        lines.append(f"  {one['id']} {one['model']}")
        lines += [f"    {reference}: {excerpt(one['reference'], one['answer'])}"]
        lines += [f"    {one['name']}: {excerpt(one['answer'], one['reference'])}"]
    return lines


def excerpt(text: str, other: str) -> str:
    """``text`` around where it ceases to be ``other``, not longer than a line or two."""
    pairs = enumerate(zip(text, other, strict=False))
    at = next((number for number, (one, two) in pairs if one != two), min(len(text), len(other)))
    begin = max(0, at - _MOST_TEXT // 4)
    shown = text[begin : begin + _MOST_TEXT]
    if not shown.strip():
        return "(empty)" if not text.strip() else "(ends here)"
    return ("…" if begin else "") + shown + ("…" if begin + _MOST_TEXT < len(text) else "")


def share(value: float | None) -> str:
    """A share of 1, in percent."""
    return "--" if value is None else f"{100 * value:.1f} %"
