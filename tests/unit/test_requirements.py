"""The CPU set, which is installed with --no-deps, has all that its packages ask for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CPU_SET = Path(__file__).parents[2] / ".ci" / "requirements-cpu.txt"
#: Left out on purpose: torch is installed on its own, the others want CUDA or a browser (.ci/lock).
LEFT_OUT = {"torch", "triton", "torchvision", "torchaudio", "torchcodec", "playwright"}


def test_what_a_package_of_the_cpu_set_asks_for_is_in_it() -> None:
    lines = [line.strip() for line in CPU_SET.read_text().splitlines()]
    pinned = {canonicalize_name(Requirement(line).name) for line in lines if line and line[0] != "#"}
    missing: dict[str, list[str]] = {}
    for name in sorted(pinned):
        try:
            asked = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:  # of another platform
            continue
        for one in asked:
            here = one.marker is None or one.marker.evaluate({"extra": ""})
            if here and canonicalize_name(one.name) not in pinned | LEFT_OUT:
                missing.setdefault(one.name, []).append(name)
    assert missing == {}
