"""What the Start screen offers: the topologies, and of those that can't start here the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from backends.registry import REGISTRY
from rvtop.cli import start_facts
from rvtop.target.topologies import TOPOLOGIES, missing


def only(*there: str) -> object:
    """A ``find_spec`` for which just these packages are installed."""
    return lambda name: ModuleSpec(name, None) if name in there else None


def test_every_topology_that_can_be_started_is_offered() -> None:
    described = {name: (entry.about, entry.extras) for name, entry in REGISTRY.items()}
    assert {name: (entry.about, entry.extras) for name, entry in TOPOLOGIES.items()} == described
    assert list(TOPOLOGIES) == list(REGISTRY)


def test_the_registry_can_be_listed_as_json() -> None:
    command = [sys.executable, "-P", "-m", "backends", "--list"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {name: tuple(entry["extras"]) for name, entry in listed.items()} == {
        name: entry.extras for name, entry in TOPOLOGIES.items()
    }
    assert all(entry["about"] and entry["module"] for entry in listed.values())


@pytest.mark.parametrize(
    ("there", "name", "says"),
    [
        (("torch", "transformers", "aiohttp"), "baseline", ""),
        (
            ("torch", "transformers", "aiohttp"),
            "rac",
            "ray is not installed: pip install 'rvtop[ray]'",
        ),
        (("ray", "aiohttp"), "rvc", "vllm is not installed: pip install 'rvtop[vllm]'"),
        (("ray", "aiohttp", "vllm"), "rvc", ""),
        (("aiohttp", "vllm"), "vllm", ""),
        ((), "baseline", "torch, transformers, aiohttp are not installed: pip install 'rvtop[hf]'"),
        ((), "rvc", "ray, aiohttp, vllm are not installed: pip install 'rvtop[ray,vllm]'"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(there: tuple[str, ...], name: str, says: str) -> None:
    assert missing(name, only(*there)) == says  # type: ignore[arg-type]


def test_the_start_screen_gets_the_reasons_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = set(sys.modules)
    offers = {offer.name: offer for offer in start_facts.first_facts().offers}
    assert list(offers) == list(TOPOLOGIES)
    assert not {"ray", "torch", "vllm", "transformers"} & (set(sys.modules) - loaded)
    why = "ray is not installed: pip install 'rvtop[ray]'"
    monkeypatch.setattr(start_facts, "missing", lambda name: why if name == "rac" else "")
    offers = {offer.name: offer for offer in start_facts.first_facts().offers}
    assert not offers["rac"].available
    assert (offers["rac"].why, offers["rac"].fix) == ("ray is not installed", "pip install 'rvtop[ray]'")
    assert (offers["baseline"].available, offers["baseline"].why) == (True, "")
    assert all(offer.engine and offer.where and offer.route and offer.adds for offer in offers.values())
