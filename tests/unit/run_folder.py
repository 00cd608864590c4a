"""Hand-made run folders: lines, commands and seconds as a session writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MS = 1_000_000
S = 1_000_000_000

ENVIRONMENT = {
    "name": "made",
    "topology": "baseline",
    "target": "http://127.0.0.1:8000",
    "models": ["a", "b"],
    "started_at": "2026-01-01T00:00:00Z",
    "prompts_digest": "0" * 64,
    "slo": {"ttft_ms": 150.0, "tpot_ms": 20.0, "e2e_ms": None},
}


def phase(name: str, at_s: float, duration_s: float | None, **more: Any) -> dict[str, Any]:
    """The entry of commands.jsonl that begins a phase."""
    return {
        "at_ns": round(at_s * S),
        "cmd": "phase",
        "index": 0,
        "name": name,
        "rate_from": 2.0,
        "rate_to": 2.0,
        "duration_s": duration_s,
        "arrivals": "constant",
        "burstiness": 1.0,
        "burst": 0,
        "max_in_flight": None,
        "drain_s": 30.0,
        "warmup": False,
        **more,
    }


def command(at_s: float, cmd: str, **more: Any) -> dict[str, Any]:
    return {"at_ns": round(at_s * S), "cmd": cmd, **more}


def request(number: int, where: str, intended_ms: float, **more: Any) -> dict[str, Any]:
    """A line of requests.jsonl. ``lag``, ``first`` and ``last`` are ms after the intended time, ``tokens`` by
    usage. Without ``first`` there were none."""
    lag, first, last = (more.pop(key, None) for key in ("lag", "first", "last"))
    tokens = more.pop("tokens", 5 if first is not None else None)

    def ns(ms: float | None) -> int | None:
        return None if ms is None else round((intended_ms + ms) * MS)

    return {
        "id": number,
        "phase": where,
        "model": "a",
        "worker": 0,
        "engine": None,
        "prompt": 0,
        "intended_ns": round(intended_ms * MS),
        "sent_ns": ns(lag),
        "headers_ns": None,
        "first_token_ns": ns(first),
        "last_token_ns": ns(last),
        "itl_hist": [],
        "prompt_tokens": 10 if first is not None else None,
        "output_tokens": tokens,
        "cached_tokens": None,
        "chunks": tokens or 0,
        "token_source": "usage" if first is not None else "chunks",
        "server": None,
        "finish": "stop" if first is not None else None,
        "error": None,
        "error_text": None,
        **more,
    }


def second(t_s: float, **more: Any) -> dict[str, Any]:
    """A line of timeline.jsonl, as far as a summary reads it."""
    empty = {"kv_usage": None, "running": None, "waiting": None, "engines": [], "gpus": [], "totals": {}}
    return {"t_s": t_s, "phase": None, **empty, **more}


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def make(
    folder: Path,
    requests: list[dict[str, Any]],
    commands: list[dict[str, Any]],
    timeline: list[dict[str, Any]] | None = None,
    **environment: Any,
) -> Path:
    """Writes a run folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environment.json").write_text(json.dumps({**ENVIRONMENT, **environment}))
    (folder / "requests.jsonl").write_text(jsonl(requests))
    (folder / "commands.jsonl").write_text(jsonl(commands))
    (folder / "timeline.jsonl").write_text(jsonl(timeline or []))
    return folder
