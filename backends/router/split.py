"""HAProxy's part of a name for several models: rules of its configuration, and the map that they look into.

A request has a point by the hash of its session, of its own id, or of an id that HAProxy makes; a map file
gives the arm of each range of points. All of a map is replaced at once at run time, without a reload. A
session that was here before keeps its arm, which a stick table holds. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.api.splits import ARM_HEADER, MOST_SESSIONS, REQUEST_HEADER, SESSION_S
from backends.router.haproxy_config import Further, quote
from backends.settings.split import POINTS, Split, SplitOptions

SESSIONS = "sessions"
_ALIAS, _POOL = "var(txn.alias)", "var(txn.pool)"
_SPLIT = "{ var(txn.alias) -m found }"


def map_path(folder: Path, number: int) -> str:
    """Where the map of a split is; ``number`` of it among the splits."""
    return str(folder / f"split-{number}.map")


def map_entries(split: Split, pools: Mapping[str, str]) -> list[tuple[str, str]]:
    """(key, pool) of a split: for each arm that has a share its range of points, and, behind all points, the
    mark by which a session that is on it is known. ``pools`` are HAProxy's, by the model."""
    entries = [(f"{low}:{high - 1}", pools[model]) for model, low, high in split.ranges()]
    shared = {model for model, _, _ in split.ranges()}
    return entries + [
        (str(POINTS + number), pools[arm.model])
        for number, arm in enumerate(split.arms)
        if arm.model in shared
    ]


def map_text(split: Split, pools: Mapping[str, str]) -> str:
    """The map file."""
    return "".join(f"{key} {pool}\n" for key, pool in map_entries(split, pools))


def version_of(answer: str) -> str | None:
    """The version that ``prepare map`` has made."""
    match = re.fullmatch(r"New version created: (\d+)", answer.strip())
    return match[1] if match else None


def replace_map(path: str, split: Split, pools: Mapping[str, str], version: str) -> list[str]:
    """Runtime commands that make a map of that version the one that counts: all of it at once."""
    added = [f"add map @{version} {path} {key} {pool}" for key, pool in map_entries(split, pools)]
    return [*added, f"commit map @{version} {path}"]


def further(options: SplitOptions, pools: Mapping[str, str], folder: Path) -> Further:
    """What routes by alias and by size, where there are several models: the pool of a request whose name is
    an alias, or that tells a size in place of a name, is in ``txn.pool``."""
    if len(pools) < 2:
        return Further()
    kept = f"size {MOST_SESSIONS} expire {SESSION_S}s store gpt0"
    return Further(
        rules=(*_size_rules(options, pools), *_split_rules(options, pools, folder)),
        routes=(
            f"    use_backend %[{_POOL}] if {{ {_POOL} -m found }}",
            "    use_backend control if { var(txn.size) -m found }",
        ),
        blocks=(
            ((f"backend {SESSIONS}", f"    stick-table type binary len 20 {kept}"),) if options.splits else ()
        ),
    )


def _size_rules(options: SplitOptions, pools: Mapping[str, str]) -> list[str]:
    no_name = "!{ var(txn.model) -m found }", "{ var(txn.model) -m len 0 }"
    size = "var(txn.size)"
    lines = [
        f"    http-request set-var(txn.size) req.body,json_query('$.model_size'),lower if {none} METH_POST"
        for none in no_name
    ]
    return lines + [
        f"    http-request set-var(txn.pool) str({pools[model]}) if {{ {size} -m str -- {quote(told)} }}"
        for told, model in options.sizes
    ]


def _split_rules(options: SplitOptions, pools: Mapping[str, str], folder: Path) -> list[str]:
    if not options.splits:
        return []
    header = f"req.fhdr({options.session_header})"
    session = f"{{ {header},length gt 0 }}"
    lines = [
        "    unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt_%pid",
        *(
            f"    http-request set-var(txn.alias) str(s{number}) "
            f"if {{ var(txn.model) -m str -- {quote(one.alias)} }}"
            for number, one in enumerate(options.splits)
        ),
        f"    http-request set-var(txn.key) unique-id if {_SPLIT}",
        f"    http-request set-var(txn.key) req.fhdr({REQUEST_HEADER}) "
        f"if {_SPLIT} {{ req.fhdr({REQUEST_HEADER}),length gt 0 }}",
        f"    http-request set-var(txn.key) {header} if {_SPLIT} {session}",
        "    http-request set-var(txn.point) "
        f"var(txn.key),sha1,bytes(0,4),hex,hex2i,mod({POINTS}) if {_SPLIT}",
        f"    http-request set-var(txn.own) {_ALIAS},concat(/,txn.key),sha1 if {_SPLIT} {session}",
        f"    http-request track-sc0 var(txn.own) table {SESSIONS} if {_SPLIT} {session}",
    ]
    held = f"sc0_get_gpt0({SESSIONS})"
    for number, split in enumerate(options.splits):
        here, path = f"{{ {_ALIAS} -m str s{number} }}", map_path(folder, number)
        lines += [
            f"    http-request set-var(txn.pool) var(txn.point),map_int({path}) if {here}",
            f"    http-request set-var(txn.pool) {held},map_int({path}) "
            f"if {here} {session} {{ {held} ge {POINTS} }}",
        ]
        on = [f"{{ {_POOL} -m str {pools[arm.model]} }}" for arm in split.arms]
        lines += [
            f"    http-request sc-set-gpt0(0) {POINTS + mark} if {here} {session} {arm}"
            for mark, arm in enumerate(on)
        ]
        if options.fallback:
            lines += _fallback_rules(here, [pools[arm.model] for arm in split.arms])
        lines += [
            f"    http-after-response set-header {ARM_HEADER} {quote(arm.model.replace('%', '%%'))} "
            f"if {here} {{ {_POOL} -m str {pools[arm.model]} }}"
            for arm in split.arms
        ]
    return lines


def _fallback_rules(here: str, pools: Sequence[str]) -> list[str]:
    """The pool of an arm whose engines are all down becomes that of the first arm that has one."""
    return [
        f"    http-request set-var(txn.pool) str({other}) "
        f"if {here} {{ {_POOL} -m str {pool} }} {{ nbsrv({pool}) eq 0 }} {{ nbsrv({other}) gt 0 }}"
        for pool in pools
        for other in pools
        if other != pool
    ]
