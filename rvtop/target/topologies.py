"""The topologies that can be started: what each is, and which packages it needs. One line for a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Topology:
    """``about`` is one line for the picker; ``extras`` of rvtop bring what it needs."""

    about: str
    extras: tuple[str, ...]


TOPOLOGIES = {
    "baseline": Topology("one process, Hugging Face generate, a thread per request", ("hf",)),
    "rac": Topology(
        "Ray actors, Hugging Face generate, one engine per GPU, least loaded first", ("ray", "hf")
    ),
    "rsc": Topology(
        "Ray Serve deployment, Hugging Face generate, one replica per GPU, Serve's own routing", ("ray", "hf")
    ),
    "rvc": Topology(
        "Ray actors, vLLM with continuous batching, one engine per GPU, router to their own ports",
        ("ray", "vllm"),
    ),
}

#: The packages of each extra without which nothing of it starts.
_PACKAGES = {
    "hf": ("torch", "transformers", "aiohttp"),
    "ray": ("ray", "aiohttp"),
    "vllm": ("vllm", "aiohttp"),
}


def missing(name: str, find: Callable[[str], object | None] = find_spec) -> str:
    """Why topology ``name`` can't start here and what to install, in one line; empty when it can.

    Looks the packages up without importing them (milliseconds; importing takes seconds).
    """
    extras = TOPOLOGIES[name].extras
    absent = list(dict.fromkeys(p for extra in extras for p in _PACKAGES[extra] if find(p) is None))
    if not absent:
        return ""
    verb = "is" if len(absent) == 1 else "are"
    wanted = ",".join(extra for extra in extras if not set(_PACKAGES[extra]).isdisjoint(absent))
    return f"{', '.join(absent)} {verb} not installed: pip install 'rvtop[{wanted}]'"
