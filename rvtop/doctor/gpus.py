"""GPUs, their driver, and whether torch can use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rvtop.doctor.check import Check, fail, gib, ok, warn
from rvtop.doctor.versions import Version, version
from rvtop.target.accelerators import with_toolkit

BUS = Path("/sys/bus/pci/devices")


@dataclass(frozen=True)
class Gpus:
    """What the driver tells. ``toolkit``: the newest that it can run of what torch is built with, as (major,
    minor); None where it does not say."""

    driver: str
    toolkit: tuple[int, int] | None
    names: tuple[str, ...]
    memory: tuple[float, ...]  # bytes
    used: tuple[float, ...] = ()  # bytes of it


def checks() -> list[Check]:
    """GPUs and torch's build."""
    found, problem = probe()
    if found is None:
        return [without_driver(problem, pci_gpus())]
    return [_list(found), *build(found, version)]


def probe() -> tuple[Gpus | None, str]:
    """The GPUs, or why the driver does not answer ("" when there is none)."""
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None, ""
    except pynvml.NVMLError as error:
        return None, str(error)
    try:
        known = with_toolkit()
        newest = None if known is None else int(getattr(pynvml, known[1].driver_version)())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        return Gpus(
            driver=pynvml.nvmlSystemGetDriverVersion(),
            toolkit=None if newest is None else (newest // 1000, newest % 1000 // 10),
            names=tuple(pynvml.nvmlDeviceGetName(handle) for handle in handles),
            memory=tuple(float(each.total) for each in memory),
            used=tuple(float(each.used) for each in memory),
        ), ""
    except pynvml.NVMLError as error:
        return None, str(error)
    finally:
        pynvml.nvmlShutdown()


def pci_gpus(devices: Path = BUS) -> int:
    """NVIDIA GPUs on the bus, whether they have a driver or not."""
    known = with_toolkit()
    return 0 if known is None else on_bus(known[0].pci, known[0].pci_class, devices)


def on_bus(maker: str, kinds: str, devices: Path = BUS) -> int:
    """A maker's devices on the bus, of the PCI classes that begin with ``kinds``."""
    count = 0
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        count += vendor == maker and kind.startswith(kinds)
    return count


def without_driver(problem: str, on_bus: int) -> Check:
    """No answer from NVML."""
    if problem:
        return fail(
            "gpu", f"the NVIDIA driver does not answer: {problem}", "reboot, or load the matching module"
        )
    if on_bus:
        return fail("gpu", f"{on_bus} NVIDIA GPUs on the bus, but no driver", "install the NVIDIA driver")
    return ok("gpu", "no NVIDIA GPU: engines run on the CPU")


def _list(found: Gpus) -> Check:
    tail = f"driver {found.driver}"
    if found.toolkit is not None and (known := with_toolkit()) is not None:
        tail += f", {known[1].name} {_dotted(found.toolkit)}"
    if not found.names:
        return warn("gpu", f"no GPU, though there is a driver ({tail})", "see what nvidia-smi reports")
    kinds = {
        f"{found.names.count(name)} × {name} ({gib(memory)})"
        for name, memory in zip(found.names, found.memory, strict=True)
    }
    return ok("gpu", f"{', '.join(sorted(kinds))}, {tail}")


def build(found: Gpus, version: Version) -> list[Check]:
    """Whether torch was built for these GPUs and this driver."""
    torch, known = version("torch"), with_toolkit()
    if torch is None or not found.names or known is None or found.toolkit is None:
        return []
    toolkit = known[1]
    if torch.endswith("+cpu"):
        text = f"torch {torch} is a CPU build: the GPUs stay idle"
        return [warn("gpu/torch", text, f"pip install a {toolkit.name} build of torch")]
    for name in toolkit.runtimes:
        runtime = version(name)
        if runtime is None:
            continue
        major = int(runtime.partition(".")[0])
        have = _dotted(found.toolkit)
        if major > found.toolkit[0]:
            text = f"torch {torch} needs {toolkit.name} {major}, the driver {found.driver} has {have}"
            fix = f"update the driver, or install a torch for the older {toolkit.name}"
            return [fail("gpu/torch", text, fix)]
        return [ok("gpu/torch", f"torch {torch} with {toolkit.name} {runtime} on a driver for {have}")]
    return []


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
