"""The tables of a report, as HTML. All text of others is escaped here."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rvtop.contract import run_files
from rvtop.contract.client_figures import CLIENT_FIGURES
from rvtop.contract.figures import SHOWN
from rvtop.results.lines import Unread, json_lines
from rvtop.results.spent_text import spent_facts
from rvtop.results.table import Requests
from rvtop.text import digits, phase_words, printable

#: Of each list the report shows so many.
_SLOWEST, _ERRORS = 20, 20
_TEXT_LIMIT = 400

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("asked rps", "rate.requested_rps"),
    ("done rps", "rate.completed_rps"),
    ("completed %", "kpm.completed_pct"),
    ("TTFT mean", "ttft_ms.mean"),
    ("p50", "ttft_ms.p50"),
    ("p99 ms", "ttft_ms.p99"),
    ("ITL p50", "itl_ms.p50"),
    ("p99 ms", "itl_ms.p99"),
    ("TPOT mean ms", "tpot_ms.mean"),
    ("E2E mean", "e2e_ms.mean"),
    ("p99 ms", "e2e_ms.p99"),
    ("tokens/s", "kpm.tps"),
    ("goodput rps", "goodput_rps"),
)


def text(value: Any) -> str:
    """Any value as HTML text: on one line, harmless, ``--`` for None."""
    if value is None:
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return digits(value)
    return escape(printable(str(value), _TEXT_LIMIT))


def figure(part: Mapping[str, Any], path: str) -> Any:
    """The figure of a summary under a dotted name; None where it, or what holds it, is missing."""
    value: Any = part
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, words: int = 1) -> str:
    """An HTML table that scrolls sideways where it must. The first ``words`` columns hold words, the others
    numbers; the first cell of a row is its name."""
    kinds = ["" if i < words else ' class="n"' for i in range(len(head))]
    heads = "".join(f'<th scope="col"{k}>{text(name)}</th>' for name, k in zip(head, kinds, strict=True))
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td{k}>{text(cell)}</td>" for cell, k in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def spent_table(result: Mapping[str, Any]) -> str:
    """Energy, cost and capacity of a run; empty where nothing tells of them."""
    found = spent_facts(result)
    return table(("", "all that was measured"), found, "Energy and money", words=2) if found else ""


def parts_table(parts: Iterable[tuple[str, Mapping[str, Any]]], what: str) -> str:
    """The figures of phases or models, a row each."""
    rows = (
        (name, *(figure(part, path) for _, path in _COLUMNS), _errors_of(part.get("requests") or {}))
        for name, part in parts
    )
    return table((what, *(name for name, _ in _COLUMNS), "errors"), rows, f"By {what}")


def arms_table(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures of each model behind one name, with its share of the requests; empty where there are
    none."""

    def named(name: str, share: float | None) -> str:
        return name if share is None else f"{name} ({100 * share:.1f} %)"

    return (
        parts_table([(named(name, arm["share"]), arm) for name, arm in arms.items()], "arm") if arms else ""
    )


def probes_table(found: Mapping[str, Any] | None) -> str:
    """One-token requests beside the load: in all, and of each phase; empty where there were none."""
    if not found:
        return ""
    parts = [("all", found), *((phase_words(str(part["name"])), part) for part in found["phases"])]
    rows = (
        (name, part["sent"], part["ok"], *(part["ttft_ms"][key] for key in ("mean", "p50", "p99")))
        for name, part in parts
    )
    head = ("phase", "sent", "ok", "TTFT mean ms", "p50", "p99")
    return table(head, rows, "One-token requests beside the load, which are in none of its figures")


def _errors_of(requests: Mapping[str, Any]) -> int:
    return sum((requests.get("errors") or {}).values())


def slowest_table(folder: Path) -> str:
    """The good requests with the largest TTFT; empty where there is none."""
    path = folder / run_files.REQUESTS
    slowest = heapq.nlargest(_SLOWEST, _good(path), key=lambda row: row[0])
    rows = (
        (
            f"{row['intended_ns'] / 1e9:.2f}", phase_words(str(row.get("phase") or "")),
            row.get("model"), row.get("engine"),
            ttft / 1e6, (row["sent_ns"] - row["intended_ns"]) / 1e6,
            _ms(row.get("headers_ns"), row["intended_ns"]), _ms(row.get("last_token_ns"), row["intended_ns"]),
            row.get("prompt_tokens"), row.get("output_tokens"),
        )
        for ttft, _, row in slowest
    )  # fmt: skip
    head = ("meant for, s", "phase", "model", "engine", "TTFT ms", "of it late", "to headers", "E2E ms",
            "tokens in", "out")  # fmt: skip
    return table(head, rows, "The slowest requests by TTFT", words=4) if slowest else ""


def _good(path: Path) -> Iterable[tuple[int, int, Mapping[str, Any]]]:
    """(TTFT in ns, place in the file, request) of each request that ended well."""
    for place, row in enumerate(json_lines(path, Unread(path))):
        times = [row.get(name) for name in ("intended_ns", "sent_ns", "first_token_ns")]
        if row.get("error") or not all(isinstance(time, int) for time in times):
            continue
        intended, _, first = (int(time) for time in times if time is not None)
        yield first - intended, place, row


def _ms(at: Any, since: int) -> float | None:
    return (at - since) / 1e6 if isinstance(at, int) else None


def errors_table(requests: Requests) -> str:
    """The most frequent errors, with what the server said; empty where there is none."""
    most = sorted(requests.error_texts.items(), key=lambda item: (-item[1], item[0]))[:_ERRORS]
    rows = ((kind, said or "--", count) for (kind, said), count in most)
    return table(("class", "text", "requests"), rows, "Errors", words=2) if most else ""


def server_table(server: Mapping[str, Any]) -> str:
    """What the server said of itself, over the measured phases; empty where it said nothing."""
    rows: list[tuple[str, Any, str]] = []
    for f in SHOWN:
        value = server.get(f.summary) if f.summary else None
        if isinstance(value, Mapping) and set(value) == {"mean", "max"}:
            for name, one in value.items():
                if one is not None:
                    rows.append((f"{f.heading} ({name})", _as(f.format, one), f.help))
        elif isinstance(value, Mapping):
            rows += [(f"{f.heading}: {name}", one, f.help) for name, one in value.items()]
        elif value is not None:
            name = f"{f.heading} (max)" if f.summary.endswith("_max") else f.heading
            rows.append((name, _as(f.format, value), f.help))
    return table(("figure", "value", "meaning"), rows, "The server's own figures", words=3) if rows else ""


def _as(format: str, value: float) -> str:
    if format == "percent":
        return f"{digits(100 * value)} %"
    return f"{digits(value)} ms" if format == "ms" else digits(value)


def environment_table(environment: Mapping[str, Any]) -> str:
    """``environment.json`` as names and values."""
    rows = list(_flat(environment, ""))
    return table(("name", "value"), rows, "What ran, on what, with which options", words=2)


def _flat(value: Any, name: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{index}")
    elif isinstance(value, list):
        yield name, ", ".join(str(inner) for inner in value) or "--"
    else:
        yield name, value if not isinstance(value, float) else f"{value:g}"


def definitions() -> str:
    """What the figures mean, as an HTML list."""
    return (
        "<dl>"
        + "".join(f"<dt>{text(one.name)}</dt><dd>{text(one.help)}</dd>" for one in CLIENT_FIGURES)
        + "</dl>"
    )
