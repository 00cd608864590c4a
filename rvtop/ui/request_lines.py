"""Single requests as lines: the parts of a TTFT on one axis, the list, and a request's curl. All pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from rich.style import Style

from rvtop.contract.requests import RequestRow
from rvtop.load.plan.api import Api, content_of
from rvtop.net.place import GRPC
from rvtop.stats.typical import STAGES, TtftParts
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, count, fixed, sig3, wall
from rvtop.ui.theme import Styles

#: (letter, field of TtftParts, fill): the order in which they pass.
PARTS = (
    ("l", "late", "·"),
    ("n", "network", "▒"),
    ("r", "router", "▒"),
    ("q", "queue", "▓"),
    ("s", "retrieve", "░"),
    ("e", "embed", "░"),
    ("s", "search", "░"),
    ("k", "rerank", "░"),
    ("p", "prefill", "█"),
)
NAMES = {
    "late": "late",
    "network": "network",
    "router": "router",
    "queue": "queue",
    "retrieve": "search",
    "embed": "embed",
    "search": "search",
    "rerank": "rerank",
    "prefill": "prefill",
}
#: Parts that few servers have: where none tells them they are named nowhere.
SELDOM = ("router", "retrieve", *STAGES)
ORDERS = ("TTFT", "E2E", "newest")
LEAST_BAR = 12


def part_style(styles: Styles, name: str) -> Style:
    """Late is the client's; what the server told is the server's; the rest is nobody's."""
    return {"late": styles.client, "network": styles.quiet}.get(name, styles.server)


def parts_bar(styles: Styles, parts: TtftParts, scale_ms: float, width: int) -> Line:
    """The parts one behind the other, ``scale_ms`` in ``width`` cells; each begins with its letter. One that
    takes no cell is not drawn."""
    line, passed = Line(), 0.0
    for letter, name, fill in PARTS:
        passed += getattr(parts, name) or 0.0
        end = round(min(1.0, passed / scale_ms) * width) if scale_ms > 0 else 0
        cells = end - line.width
        if cells > 0:
            line.put(letter + fill * (cells - 1), part_style(styles, name))
    return line


def axis(styles: Styles, scale_ms: float, width: int) -> Line:
    """The scale above the bars: 0, its middle and its end."""
    end, middle = f"{sig3(scale_ms)} ms", sig3(scale_ms / 2)
    line = Line("0", styles.faint)
    if width >= 30:
        line.to(width // 2).put(middle, styles.faint)
    return line.to(width - len(end)).put(end, styles.faint).cut(width)


def ordered(rows: Sequence[RequestRow], order: str) -> list[RequestRow]:
    """The slowest by TTFT or E2E first, or the newest."""
    if order == "newest":
        return sorted(rows, key=lambda row: row.unix_s, reverse=True)
    return sorted(rows, key=lambda row: (row.ttft_ms if order == "TTFT" else row.e2e_ms) or 0.0, reverse=True)


def matching(rows: Sequence[RequestRow], text: str) -> list[RequestRow]:
    """Those that hold ``text``, in whatever case, in their id, model, engine, phase, finish or error."""
    wanted = text.lower()

    def held(row: RequestRow) -> str:
        fields = (str(row.id), row.model, row.engine, row.phase, row.finish, row.error, row.error_text)
        return " ".join(field for field in fields if field).lower()

    return [row for row in rows if wanted in held(row)]


#: (heading, cells, rank): columns of a higher rank are left out first where the bar has no room.
COLUMNS = (
    ("at", 8, 1),
    ("id", 8, 0),
    ("model", 10, 5),
    ("engine", 8, 3),
    ("in", 6, 4),
    ("cached", 6, 6),
    ("out", 5, 4),
    ("TTFT", 7, 0),
    ("E2E", 7, 2),
)
_LEFT = ("at", "id", "model", "engine")
_END = 8


def columns_for(width: int) -> list[tuple[str, int]]:
    """The columns that fit into ``width`` beside a bar, or without one where even that is too much."""
    kept = list(COLUMNS)

    def size() -> int:
        return 2 + sum(cells + 1 for _, cells, _ in kept) + LEAST_BAR + 1 + _END

    while size() > width and any(rank for _, _, rank in kept):
        kept.remove(max(kept, key=lambda column: column[2]))
    return [(name, cells) for name, cells, _ in kept]


def _texts(row: RequestRow) -> dict[str, str]:
    return {
        "at": wall(row.unix_s),
        "id": str(row.id),
        "model": row.model,
        "engine": row.engine or "--",
        "in": count(row.prompt_tokens),
        "cached": count(row.cached_tokens),
        "out": count(row.output_tokens),
        "TTFT": sig3(row.ttft_ms),
        "E2E": sig3(row.e2e_ms),
    }


def _cell(name: str, text: str, cells: int) -> str:
    return (fixed(text, cells) if name in _LEFT else clip(text, cells).rjust(cells)) + " "


def head_line(styles: Styles, width: int, scale_ms: float) -> Line:
    """The heads of the list's columns, and the axis above its bars."""
    line = Line("  ")
    for name, cells in columns_for(width):
        line.put(_cell(name, name, cells), styles.quiet)
    room = width - line.width - _END - 1
    if room >= LEAST_BAR:
        line.join(axis(styles, scale_ms, room)).put(" end", styles.quiet)
    return line.cut(width)


def row_line(styles: Styles, row: RequestRow, width: int, scale_ms: float, *, chosen: bool) -> Line:
    """One request; a failed one has its error in place of the bar."""
    line = Line("▸ " if chosen else "  ", styles.command)
    texts = _texts(row)
    for name, cells in columns_for(width):
        line.put(_cell(name, texts[name], cells), styles.strong if chosen else styles.base)
    if row.error is not None:
        what = f"✗ {row.error}" + (f" “{row.error_text}”" if row.error_text else "")
        return line.put(clip(what, max(0, width - line.width)), styles.trouble).cut(width)
    room = width - line.width - _END - 1
    if room >= LEAST_BAR:
        bar = parts_bar(styles, row.parts, scale_ms, room) if row.parts else Line("--", styles.stale)
        line.join(bar.to(room)).put(" " + clip(row.finish or "--", _END), styles.quiet)
    return line.cut(width)


def window(total: int, chosen: int, height: int) -> int:
    """The first row to draw of ``total``, so that the chosen one is among ``height``."""
    return min(max(0, chosen - height + 1 + height // 4), max(0, total - height)) if chosen >= height else 0


def detail_texts(row: RequestRow) -> list[tuple[str, str, str]]:
    """(name, value in ms, what it is) of each part of one request; a part that nobody tells is ``--``."""
    parts = row.parts
    if parts is None:
        return []
    told = "client − all that is told" if parts.told else "the server tells no parts, so all that is not late"
    about = {
        "late": "sent after its intended time",
        "network": f"residual: {told}",
        "router": "from its arrival at the router to that at the engine's server",
        "queue": "waited in front of an engine and in it",
        "retrieve": "documents looked up for the prompt",
        "embed": "the question to its vector",
        "search": "its vector to passages",
        "rerank": "the passages in order",
        "prefill": f"{count(row.prompt_tokens)} tokens in, {count(row.cached_tokens)} of them cached",
    }
    made = [
        (NAMES[name], sig3(getattr(parts, name)), about[name])
        for _, name, _ in PARTS
        if name not in SELDOM or getattr(parts, name) is not None
    ]
    if row.e2e_ms is not None and row.ttft_ms is not None:
        made.append(("decode", sig3(row.e2e_ms - row.ttft_ms), f"{count(row.output_tokens)} tokens out"))
    return made


def curl(url: str, row: RequestRow, prompt: dict[str, Any], api: Api = Api()) -> str:  # noqa: B008 - frozen
    """The request as a command to run; a key is named, not written. Raises ValueError for what can't be sent
    again."""
    if row.turn:
        raise ValueError(f"turn {row.turn + 1} of a conversation holds answers, which are not kept")
    if url.startswith(GRPC):
        return _grpcurl(url.removeprefix(GRPC), row, prompt)
    of_prompts = "messages" if "messages" in prompt else "prompt"
    kind, fields = api.kind(of_prompts), api.said(prompt)
    if "text" in fields:
        rerank = api.name == "rerank"
        if "documents" not in prompt if rerank else api.texts > 1:
            raise ValueError(f"a request of {api.name} held {api.texts} prompts of the file and more")
        text = fields.pop("text")
        fields |= {"query": text, "documents": prompt["documents"]} if rerank else {"input": text}
    own: dict[str, Any] = {key: prompt[key] for key in ("max_tokens", "min_tokens") if key in prompt}
    if "max_tokens" not in own and row.output_tokens:
        own["max_tokens"] = row.output_tokens
    fields |= api.lengths(own, of_prompts, {})
    fields |= {"stream": api.stream} if kind.generates else {}
    # In ASCII: what stands in a prompt must not reach the terminal it is pasted into as control characters.
    body = json.dumps({"model": row.model, **fields})
    where = shlex.quote(f"{url.rstrip('/')}{kind.path}")
    key = '"Authorization: Bearer $RVTOP_API_KEY"'
    return f"curl -N {where} -H 'Content-Type: application/json' -H {key} -d {shlex.quote(body)}"


def _grpcurl(place: str, row: RequestRow, prompt: dict[str, Any]) -> str:
    """The same for a gRPC target of ours, whose reflection tells the messages. Raises ValueError."""
    host, _, service = place.partition("/")
    if service:
        raise ValueError(f"{service} has messages of its own; send it over HTTP instead")
    said: dict[str, Any] = {"model": row.model, "max_tokens": prompt.get("max_tokens") or row.output_tokens}
    if "messages" in prompt:
        messages = [{"role": one["role"], "content": content_of(one)} for one in prompt["messages"]]
        said["chat"] = {"messages": messages}
    elif isinstance(prompt["prompt"], str):
        said["text"] = prompt["prompt"]
    else:
        said["token_ids"] = {"ids": prompt["prompt"]}
    key = '"authorization: Bearer $RVTOP_API_KEY"'
    body = shlex.quote(json.dumps(said))
    return f"grpcurl -plaintext -H {key} -d {body} {shlex.quote(host)} rvtop.v1.Generation/Generate"
