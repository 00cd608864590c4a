"""vLLM's page of metrics as a part of ours."""

from __future__ import annotations

import re

_ENGINE_LABEL = re.compile(r'(?<=[{,])engine="(\d+)"')
# What tells the versions of an adapter apart (engines.adapters), which no reader of a page wants.
_VERSION = re.compile(r"@[0-9a-f]{8}(?=[,\"])")
_HEADS = ("# HELP vllm:", "# TYPE vllm:", "vllm:")


def relabelled(page: str, engine: str) -> str:
    """vLLM's own series of a page, with ``engine`` telling this engine from others (vLLM counts from 0 in
    each process): its name, and for the second of several data-parallel ranks ``name.1``."""

    def label(match: re.Match[str]) -> str:
        return f'engine="{engine}"' if match[1] == "0" else f'engine="{engine}.{match[1]}"'

    lines = [line for line in page.splitlines() if line.startswith(_HEADS)]
    named = [
        _VERSION.sub("", line) if line.startswith("vllm:lora_requests_info{") else line for line in lines
    ]
    return "\n".join(_ENGINE_LABEL.sub(label, line) for line in named) + "\n"


def total(page: str, name: str) -> float:
    """A gauge's sum over its series; 0 where the page has none."""
    heads = (f"{name}{{", f"{name} ")
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(heads))
