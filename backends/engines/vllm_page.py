"""vLLM's page of metrics as a part of ours."""

from __future__ import annotations

import re

_ENGINE_LABEL = re.compile(r'(?<=[{,])engine="(\d+)"')
# What tells the versions of an adapter apart (engines.adapters), which no reader of a page wants.
_VERSION = re.compile(r"@[0-9a-f]{8}(?=[,\"])")
_ADAPTERS = "vllm:lora_requests_info{"
_HEADS = ("# HELP vllm:", "# TYPE vllm:", "vllm:")


def relabelled(page: str, engine: str) -> str:
    """vLLM's own series of a page, with ``engine`` telling this engine from others (vLLM counts from 0 in
    each process): its name, and for the second of several data-parallel ranks ``name.1``. Of the series that
    tell sets of adapters, one for each set that there ever was, the newest."""

    def label(match: re.Match[str]) -> str:
        return f'engine="{engine}"' if match[1] == "0" else f'engine="{engine}.{match[1]}"'

    lines = [line for line in page.splitlines() if line.startswith(_HEADS)]
    infos = [line for line in lines if line.startswith(_ADAPTERS)]
    if infos:
        newest = max(infos, key=lambda line: float(line.rpartition(" ")[2]))
        lines = [line for line in lines if line is newest or not line.startswith(_ADAPTERS)]
        told = _VERSION.sub("", newest).replace(_ADAPTERS, f'{_ADAPTERS}engine="0",')
        lines[lines.index(newest)] = told
    return "\n".join(_ENGINE_LABEL.sub(label, line) for line in lines) + "\n"


def total(page: str, name: str) -> float:
    """A gauge's sum over its series; 0 where the page has none."""
    heads = (f"{name}{{", f"{name} ")
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(heads))
