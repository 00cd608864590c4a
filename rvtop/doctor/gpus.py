"""GPUs, their driver, and whether torch can use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rvtop.doctor.check import Check, fail, gib, ok, warn
from rvtop.doctor.versions import Version, version

_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # PCI class: display controllers, of which 3D controllers (0x0302) are one kind


@dataclass(frozen=True)
class Gpus:
    """What the driver tells. ``cuda``: the newest CUDA it can run, as (major, minor)."""

    driver: str
    cuda: tuple[int, int]
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
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        return Gpus(
            driver=pynvml.nvmlSystemGetDriverVersion(),
            cuda=(cuda // 1000, cuda % 1000 // 10),
            names=tuple(pynvml.nvmlDeviceGetName(handle) for handle in handles),
            memory=tuple(float(each.total) for each in memory),
            used=tuple(float(each.used) for each in memory),
        ), ""
    except pynvml.NVMLError as error:
        return None, str(error)
    finally:
        pynvml.nvmlShutdown()


def pci_gpus(devices: Path = Path("/sys/bus/pci/devices")) -> int:
    """NVIDIA GPUs on the bus, whether they have a driver or not."""
    count = 0
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        count += vendor == _NVIDIA and kind.startswith(_DISPLAY)
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
    cuda = ".".join(map(str, found.cuda))
    tail = f"driver {found.driver}, CUDA {cuda}"
    if not found.names:
        return warn("gpu", f"no GPU, though there is a driver ({tail})", "see what nvidia-smi reports")
    kinds = {
        f"{found.names.count(name)} × {name} ({gib(memory)})"
        for name, memory in zip(found.names, found.memory, strict=True)
    }
    return ok("gpu", f"{', '.join(sorted(kinds))}, {tail}")


def build(found: Gpus, version: Version) -> list[Check]:
    """Whether torch was built for these GPUs and this driver."""
    torch = version("torch")
    if torch is None or not found.names:
        return []
    if torch.endswith("+cpu"):
        text = f"torch {torch} is a CPU build: the GPUs stay idle"
        return [warn("gpu/torch", text, "pip install a CUDA build of torch")]
    for name in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12"):
        runtime = version(name)
        if runtime is None:
            continue
        major = int(runtime.partition(".")[0])
        have = ".".join(map(str, found.cuda))
        if major > found.cuda[0]:
            text = f"torch {torch} needs CUDA {major}, the driver {found.driver} has {have}"
            return [fail("gpu/torch", text, "update the driver, or install a torch for the older CUDA")]
        return [ok("gpu/torch", f"torch {torch} with CUDA {runtime} on a driver for {have}")]
    return []
