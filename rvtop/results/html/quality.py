"""A quality check as a part of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.results.html.document import document
from rvtop.results.html.tables import table, text
from rvtop.results.quality import HEADS, MEANINGS, cells, head_line, name_of, share


def quality_page(found: Mapping[str, Any]) -> str:
    """The check as a page of its own."""
    title = f"Quality: {found['scenario']}"
    body = f"<header><h1>{text(title)}</h1></header><section><h2>Answers</h2>{quality_html(found)}</section>"
    data = {"duration_s": 0.0, "phases": [], "events": [], "charts": []}
    return document(f"{title} · rvtop", body + '<section id="charts" hidden></section>', data, "report")


def quality_html(found: Mapping[str, Any]) -> str:
    """Its table, what the columns mean, and the answers that differ."""
    reference = found["reference"]
    told = [(name_of(row, reference), *cells(row)) for row in found["rows"]]
    reasons = [f"{name}: {reason}" for name, reason in found["reasons"].items()]
    reasons += [f"{row['name']}: {kind} {n}" for row in found["rows"] for kind, n in row["errors"].items()]
    meanings = "".join(f"<dt>{text(head)}</dt><dd>{text(MEANINGS[head])}</dd>" for head in HEADS)
    listed = "".join(f"<li>{text(reason)}</li>" for reason in reasons)
    apart = [
        (f"{one['id']} {one['name']} {one['model']}", one["reference"], one["answer"], share(one["overlap"]))
        for one in found["shown"]
    ]
    heads = ("question", f"answer of {reference}", "its answer", "overlap")
    caption = f"Answers that differ: the least alike {len(apart)} of {found['differing']}"
    texts = ""
    if apart:
        differing = f'<div class="whole">{table(heads, apart, caption, words=3)}</div>'
        texts = f"<details><summary>answers that differ</summary>{differing}</details>"
    return (
        f"<p>{text(head_line(found))}</p>"
        + table(("topology", *HEADS), told, f"Against {reference}")
        + (f"<ul>{listed}</ul>" if listed else "")
        + texts
        + f"<details><summary>what the columns mean</summary><dl>{meanings}</dl></details>"
    )
