"""Where the TTFT went, as a section of a report: a stacked bar each of mean, p50 and p99, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rvtop.results.html.tables import table, text
from rvtop.results.parts_text import PARTS
from rvtop.stats.typical import HISTOGRAMS, OURS, VLLM
from rvtop.text import digits

_RANKS = ("mean", "p50", "p99")
_BAR, _ROW, _NAME, _WIDTH = 16, 22, 60, 1000  # of the drawing, in its own units


def parts_html(told: Mapping[str, Any]) -> str:
    """Of ``ttft_parts`` of a summary; empty where no request has a TTFT."""
    rows = [(rank, told[rank]) for rank in _RANKS if told.get(rank)]
    if not rows:
        return ""
    known = [part for part in PARTS if any(one.get(part[0]) is not None for _, one in rows)]
    keys = "".join(
        f'<li><span class="part-key {_class(key)}"></span>{escape(name)}</li>' for key, name in known
    )
    return (
        f'<p class="facts">{text(_source(told))}</p>{_bars(rows)}<ul class="legend">{keys}</ul>{_table(rows)}'
    )


def _class(key: str) -> str:
    """That of a part in the page's styles."""
    return key.removesuffix("_ms")


def _source(told: Mapping[str, Any]) -> str:
    who = {
        OURS: "rvtop's backend told it (usage.rvtop)",
        VLLM: "vLLM told it (metrics of the last chunk; its prefill starts at scheduling)",
    }
    if told["source"] == HISTOGRAMS:
        return (
            "ESTIMATE: the server tells only means, of all its requests; the parts of the mean are made of "
            "them, those of p50 and p99 are not known"
        )
    if told["source"] is None:
        return "The server tells no parts: all that is not lag stands as network and front end"
    names = " + ".join(who.get(name, name) for name in told["source"].split(" + "))
    return f"Of {told['told']} of {told['requests']} requests {names}; what nobody tells is in the residual"


def _bars(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    scale = max(one["ttft_ms"] for _, one in rows) or 1.0
    drawn = []
    for place, (rank, one) in enumerate(rows):
        y, at = place * _ROW, float(_NAME)
        mark = "~" if one["estimate"] else ""
        drawn.append(f'<text x="0" y="{y + 13}">{rank} {mark}</text>')
        for key, name in PARTS:
            wide = (one.get(key) or 0.0) / scale * (_WIDTH - _NAME)
            if wide > 0:
                drawn.append(
                    f'<rect class="{_class(key)}" x="{at:.2f}" y="{y}" width="{wide:.2f}" height="{_BAR}">'
                    f"<title>{rank}: {escape(name)} {digits(one[key])} ms</title></rect>"
                )
            at += wide
    return (
        f'<svg class="parts" viewBox="0 0 {_WIDTH} {_ROW * len(rows)}" role="img" '
        f'aria-label="Parts of the TTFT, as in the table below">{"".join(drawn)}</svg>'
    )


def _table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    shown = [(key, name) for key, name in PARTS if any(key in one for _, one in rows)]
    head = ("requests", "TTFT ms", *(name for _, name in shown), "then decode")
    body = [
        (
            f"{rank}, ESTIMATE" if one["estimate"] else rank,
            one["ttft_ms"],
            *(one.get(key) for key, _ in shown),
            one["decode_ms"],
        )
        for rank, one in rows
    ]
    return table(head, body, "Parts of the TTFT, ms: of all, and of the requests around p50 and p99")
