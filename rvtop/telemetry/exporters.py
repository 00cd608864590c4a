"""Who tells the figures of accelerators: one table of exporters, their series and labels.

Units are brought to bytes, shares of 1, watts and joules by each series' scale. What an exporter does not
have stays missing, which screens show as ``--``. The names are those of the projects' own documents and
sources: NVIDIA's dcgm-exporter (default counters), AMD's device-metrics-exporter (VRAM in MB, energy in µJ),
Huawei's npu-exporter (memory in MB) and all-smi (``all-smi api``). Which of them rvtop was run beside:
docs/accelerators.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

_MIB = 1024.0 * 1024.0
_PERCENT, _MILLI, _MICRO = 0.01, 1e-3, 1e-6


class Series(NamedTuple):
    """What one series is: a field of :class:`rvtop.telemetry.gpu.GpuParts`, and what makes its unit ours.
    Where several have one field, that of the lowest ``rank`` counts."""

    field: str
    scale: float = 1.0
    rank: int = 0


@dataclass(frozen=True)
class Exporter:
    """``series`` by name. ``index``, ``node``, ``model`` and ``part`` are labels: the device's number, its
    machine, its model, the part of it (a MIG instance) that a figure is of; the first that a series has
    counts. ``port`` is where it listens by default; 0: it is no page, rvtop asks a library itself."""

    name: str
    about: str
    port: int = 0
    series: Mapping[str, Series] = field(default_factory=dict)
    index: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    kind: str = "GPU"  # what a device without a model is called


def _amd(prefix: str) -> dict[str, Series]:
    return {
        f"{prefix}gpu_used_vram": Series("used", _MIB),
        f"{prefix}gpu_free_vram": Series("free", _MIB),
        f"{prefix}gpu_total_vram": Series("total", _MIB),
        f"{prefix}gpu_gfx_activity": Series("util", _PERCENT),
        f"{prefix}gpu_package_power": Series("watts"),
        f"{prefix}gpu_power_usage": Series("watts", rank=1),
        f"{prefix}gpu_average_package_power": Series("watts", rank=2),
        f"{prefix}gpu_energy_consumed": Series("joules", _MICRO),
    }


EXPORTERS = (
    Exporter("nvml", "NVIDIA's driver library, in rvtop's own process, for this machine's GPUs"),
    Exporter(
        "dcgm",
        "NVIDIA's dcgm-exporter",
        9400,
        {
            "DCGM_FI_DEV_FB_USED": Series("used", _MIB),
            "DCGM_FI_DEV_FB_FREE": Series("free", _MIB),
            "DCGM_FI_DEV_FB_RESERVED": Series("reserved", _MIB),
            "DCGM_FI_DEV_FB_TOTAL": Series("total", _MIB),
            "DCGM_FI_DEV_GPU_UTIL": Series("util", _PERCENT),
            "DCGM_FI_DEV_POWER_USAGE": Series("watts"),
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Series("joules", _MILLI),
        },
        ("gpu",),
        ("Hostname",),
        ("modelName",),
        ("GPU_I_ID",),
    ),
    Exporter(
        "amd",
        "AMD's device-metrics-exporter (ROCm SMI); with or without its prefix amd_",
        5000,
        {**_amd(""), **_amd("amd_")},
        ("gpu_id",),
        ("hostname",),
        ("card_series", "card_model"),
        ("gpu_partition_id",),
    ),
    Exporter(
        "npu-exporter",
        "Huawei's npu-exporter for Ascend",
        8082,
        {
            "npu_chip_info_hbm_used_memory": Series("used", _MIB),
            "npu_chip_info_hbm_total_memory": Series("total", _MIB),
            # The DDR of chips without HBM (310P).
            "npu_chip_info_used_memory": Series("used", _MIB, 1),
            "npu_chip_info_total_memory": Series("total", _MIB, 1),
            "npu_chip_info_utilization": Series("util", _PERCENT),
            "npu_chip_info_power": Series("watts"),
        },
        ("id", "npuID"),
        ("node",),
        ("model_name", "modelName", "name"),
        kind="NPU",
    ),
    Exporter(
        "all-smi",
        "all-smi api, for devices of many makers",
        9090,
        {
            "all_smi_gpu_memory_used_bytes": Series("used"),
            "all_smi_gpu_memory_total_bytes": Series("total"),
            "all_smi_gpu_utilization": Series("util", _PERCENT),
            "all_smi_gpu_power_consumption_watts": Series("watts"),
        },
        ("gpu_index", "index"),
        ("instance",),
        ("gpu",),
    ),
)
#: Every series, with its exporter.
SERIES: Mapping[str, tuple[Exporter, Series]] = {
    name: (exporter, series) for exporter in EXPORTERS for name, series in exporter.series.items()
}


def label(labels: Mapping[str, str], names: tuple[str, ...], default: str = "") -> str:
    """The first of ``names`` that ``labels`` have."""
    return next((labels[name] for name in names if labels.get(name)), default)
