"""Accelerators that are not NVIDIA's, vLLM's platform plugins, and the exporters that answer on this machine.

NVIDIA's are :mod:`rvtop.doctor.gpus`, which asks their driver. Of the others only their devices' files and
the bus are looked at: no library of a maker is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http.client import HTTPException
from importlib import metadata
from pathlib import Path

from rvtop.doctor.check import Check, ok, warn
from rvtop.doctor.gpus import BUS, on_bus
from rvtop.doctor.versions import Version, version
from rvtop.net.http_get import AnswerTooLong, get
from rvtop.net.transport import Transport
from rvtop.target.accelerators import Accelerator, accelerators
from rvtop.telemetry.exporters import EXPORTERS, Exporter
from rvtop.text import NAME_LIMIT, printable

#: Entry points of packages that add a platform to vLLM.
PLATFORMS = "vllm.platform_plugins"
_ANSWER_S = 1.0

Plugins = Callable[[], Sequence[tuple[str, str]]]


def plugins() -> list[tuple[str, str]]:
    """Name and package of each platform plugin of vLLM that is installed."""
    found = metadata.entry_points(group=PLATFORMS)
    return [
        (printable(point.name, NAME_LIMIT), printable(point.dist.name if point.dist else "?", NAME_LIMIT))
        for point in found
    ]


def checks(
    root: Path = Path("/"), bus: Path = BUS, plugins: Plugins = plugins, version: Version = version
) -> list[Check]:
    """Devices, plugins, exporters."""
    return [*devices(root, bus, version), *platforms(plugins()), *exporters(local_page)]


def devices(root: Path, bus: Path, version: Version) -> list[Check]:
    """One line for each kind that is here; ``root`` is the folder that the files' patterns begin at."""
    found = []
    for kind in accelerators():
        if kind.toolkit is not None:
            continue
        count = sum(1 for _ in root.glob(kind.files.lstrip("/"))) if kind.files else 0
        if kind.pci:
            count = on_bus(kind.pci, kind.pci_class, bus)
        if count:
            found.append(_device(kind, count, version))
    return found


def platforms(found: Sequence[tuple[str, str]]) -> list[Check]:
    """vLLM takes its platform from a plugin, if there is one, and refuses to start with two that apply."""
    if not found:
        return []
    names = ", ".join(f"{name} of {package}" for name, package in found)
    if len(found) > 1:
        text = f"{len(found)} platform plugins ({names}): vLLM starts only if one of them applies here"
        return [warn("vllm/platform", text, "uninstall those of other devices, or name one in VLLM_PLUGINS")]
    return [ok("vllm/platform", f"plugin {names}: vLLM takes its devices from it")]


def exporters(page: Callable[[int], str]) -> list[Check]:
    """Which exporter's series are on the pages of this machine at their default ports."""
    return [
        ok(
            f"exporter {exporter.name}",
            f"at port {exporter.port}: --metrics-url http://127.0.0.1:{exporter.port}/metrics reads it",
        )
        for exporter in EXPORTERS
        if exporter.port and _tells(exporter, page(exporter.port))
    ]


def local_page(port: int) -> str:
    """The metrics page at a port of this machine; empty where there is none."""
    try:
        status, body = get(f"http://127.0.0.1:{port}/metrics", Transport(), {}, _ANSWER_S)
    except (OSError, HTTPException, AnswerTooLong):
        return ""
    return body.decode("utf-8", "replace") if status == 200 else ""


def _tells(exporter: Exporter, page: str) -> bool:
    names = {line.partition("{")[0] for line in page.splitlines() if not line.startswith("#")}
    return not names.isdisjoint(exporter.series)


def _device(kind: Accelerator, count: int, version: Version) -> Check:
    text = f"{count} × {kind.about}, Ray's resource {kind.resource}"
    if not kind.run:
        text += "; rvtop was never run on one"
    if not kind.vllm:
        return warn(kind.name, f"{text}; no package is known that adds it to vLLM", "engines run on the CPU")
    if " " in kind.vllm:  # a build of vLLM itself, which its version does not tell from another
        return ok(kind.name, f"{text}; needs {kind.vllm}")
    installed = version(kind.vllm)
    if installed is None:
        return warn(kind.name, f"{text}; {kind.vllm} is not installed", f"pip install {kind.vllm}")
    return ok(kind.name, f"{text}; {kind.vllm} {installed}")
