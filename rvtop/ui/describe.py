"""A server as lines of text: what it is, its engines' arguments, the versions it was tested with; an engine
with all its figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rvtop.contract.figures import SHOWN, texts
from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.text import printable
from rvtop.ui.format import FORMATS, MISSING, age, count, percent, sig3

_NAME = 14
_LONGEST = 300


def row(name: str, value: object) -> str:
    """``places        256``."""
    return f"{printable(name, _NAME):<{_NAME}}  {printable(str(value), _LONGEST)}"


def _pairs(held: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {value}" for key, value in held.items() if value not in (None, "", [], {}))


def _of_target(environment: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    """The part of an ``environment.json`` about the server at ``url``: of the run's first, or one that its
    load went over to."""
    if environment.get("target") == url:
        return environment
    gone_to = environment.get("targets")
    found = [one for one in gone_to if isinstance(one, Mapping)] if isinstance(gone_to, list) else []
    return next((one for one in reversed(found) if one.get("target", one.get("url")) == url), {})


def describe_server(s: Snapshot, environment: Mapping[str, Any]) -> list[str]:
    """The server of ``s``. ``environment``: what the run's ``environment.json`` holds, empty without one."""
    target = s.target
    made = [
        row("topology", target.topology or MISSING),
        row("URL", target.url),
        row("models", ", ".join(target.models) or MISSING),
        row("engine", target.engine or MISSING),
    ]
    held = _of_target(environment, target.url)
    flags = held.get("flags")
    options = flags.get("backend") if isinstance(flags, Mapping) else held
    if isinstance(options, Mapping) and "arguments" in options:
        arguments = options["arguments"]
        words = " ".join(map(str, arguments)) if isinstance(arguments, list) else ""
        made.append(row("arguments", words or "none of its own"))
    knobs = held.get("target_engines")
    told = [one for one in knobs if isinstance(one, Mapping)] if isinstance(knobs, list) else []
    for number, one in enumerate(told):
        made.append(row(f"engine {number}", _pairs(one) or MISSING))
    for engine in s.engines:
        where = f"on {engine.node}  " if engine.node else ""
        made.append(row(engine.name, f"{where}{engine.model or ''}  places {count(engine.max_seqs)}"))
    versions = environment.get("versions")
    if isinstance(versions, Mapping) and versions:
        made.append(row("installed here", _pairs(versions)))
    if not told:
        made.append("Of its arguments this server tells no more.")
    return made


def figures_of(engine: Engine) -> list[tuple[str, str]]:
    """All figures of an engine, as (heading, text)."""
    told = texts(SHOWN, engine.figures, FORMATS)
    return [
        ("running", count(engine.running)),
        ("waiting", count(engine.waiting)),
        ("places", count(engine.max_seqs)),
        ("most seen", count(engine.most_running)),
        ("KV", percent(engine.kv_usage)),
        ("tokens/s", sig3(engine.tokens_per_s)),
        ("prefix hits", percent(engine.prefix_hit_rate)),
        ("preemptions", count(engine.preemptions)),
        *((figure.heading, part) for figure, parts in told for part in parts),
    ]


def describe_engine(engine: Engine) -> list[str]:
    """All that an engine tells."""
    return [
        row("engine", engine.name),
        row("where", engine.node or MISSING),
        row("model", engine.model or MISSING),
        row("answers", "yes" if engine.stale_s is None else f"✗ gone {age(engine.stale_s)}"),
        *(row(heading, text) for heading, text in figures_of(engine)),
    ]


def describe_engines(engines: Sequence[Engine]) -> list[str]:
    """Engines of a node, a line each."""
    return [
        row(
            one.name,
            f"{one.node or MISSING}  {count(one.running)}/{count(one.max_seqs)}  wait {count(one.waiting)}  "
            f"KV {percent(one.kv_usage)}  {sig3(one.tokens_per_s)} tok/s"
            + ("" if one.stale_s is None else f"  ✗ gone {age(one.stale_s)}"),
        )
        for one in engines
    ]
