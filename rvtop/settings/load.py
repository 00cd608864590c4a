"""Reads the settings: a flag wins over the environment, that over the file, that over the default."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvtop.errors import UserError
from rvtop.settings.fields import ENVIRONMENT, FIELDS, from_environment, key_list, wrong
from rvtop.settings.paths import config_file

if TYPE_CHECKING:
    from rvtop.system.yaml_lines import Nodes

KeymapFaults = Callable[[Mapping[str, Sequence[str]]], Sequence[tuple[str, str]]]
_GROUPS = {one.name.rpartition(".")[0] for one in FIELDS} - {""}
_BY_NAME = {one.name: one for one in FIELDS}


class SettingsError(UserError):
    """Settings that can't be used; ``faults`` are all of them, ``str()`` is the first with their number."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = len(self.faults) - 1
        super().__init__(self.faults[0] + (f" ({more} more: rvtop config validate)" if more else ""))


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force. ``source`` says of each setting where it is from: a flag, a variable, the file."""

    theme: str = "auto"
    ascii: bool | None = None  # None: the locale and the terminal decide
    motion: bool = True
    mouse: bool = True
    keymap: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # keys by the action's name
    slo: Mapping[str, float] = field(default_factory=dict)  # ttft_ms, tpot_ms
    price_per_gpu_hour: float | None = None
    price_per_kwh: float | None = None
    gpu_power_w: float | None = None
    gpu_idle_w: float | None = None
    source: Mapping[str, str] = field(default_factory=dict)


def load(
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    *,
    keymap_faults: KeymapFaults | None = None,
) -> Settings:
    """The settings in force. ``flags``: what the command line names, by setting; None is "not named".

    ``keymap_faults`` says what is wrong with a keymap: an action's name in it, and why. Raises SettingsError
    with every fault of file and environment.
    """
    path = config_file(environ)
    faults: list[str] = []
    found: dict[str, Any] = {one.name: one.default for one in FIELDS}
    source = dict.fromkeys(found, "default")
    for name, value in _of_file(path, keymap_faults, faults).items():
        found[name], source[name] = value, str(path)
    for name, variable in ENVIRONMENT.items():
        if text := environ.get(variable, ""):
            value = from_environment(name, text)
            if why := wrong(_BY_NAME[name], value):
                faults.append(f"{variable}: {why}")
            found[name], source[name] = value, variable
    for name, value in (flags or {}).items():
        if value is not None:
            found[name], source[name] = value, f"--{name}"
    if faults:
        raise SettingsError(faults)
    slo = {
        key: float(found[f"slo.{key}"]) for key in ("ttft_ms", "tpot_ms") if found[f"slo.{key}"] is not None
    }
    plain = {name: value for name, value in found.items() if "." not in name and name != "keymap"}
    return Settings(**plain, keymap=found["keymap"] or {}, slo=slo, source=source)


def _of_file(path: Path, check: KeymapFaults | None, faults: list[str]) -> dict[str, Any]:
    """The sound settings of the file; what is wrong goes to ``faults``. No or an empty file is sound."""
    if not path.exists():
        return {}
    from rvtop.system.yaml_lines import FileError, parse, read_text  # YAML takes its time: only with a file

    try:
        text = read_text(path, str(path))
        if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
            return {}
        data, nodes = parse(text, str(path))
    except FileError as error:
        faults.append(str(error))
        return {}
    return _checked(data, nodes, str(path), check, faults)


def _checked(
    data: Mapping[str, Any], nodes: Nodes, shown: str, check: KeymapFaults | None, faults: list[str]
) -> dict[str, Any]:
    told: list[tuple[int, str]] = []

    def fault(keys: tuple[str, ...], message: str) -> None:
        line = nodes.line(keys) or 0
        told.append((line, f"{shown}:{line}: {'.'.join(keys)}: {message}"))

    def unknown(keys: tuple[str, ...], known: Sequence[str]) -> None:
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        fault(keys, f"unknown; {hint}")

    found: dict[str, Any] = {}
    known = sorted({one.name.partition(".")[0] for one in FIELDS})
    for key, value in data.items():
        if key not in known:
            unknown((key,), known)
        elif key == "keymap":
            found[key] = _keymap(value, check, fault)
        elif key not in _GROUPS:
            if why := wrong(_BY_NAME[key], value):
                fault((key,), why)
            elif value is not None:
                found[key] = value
        elif not isinstance(value, Mapping):
            fault((key,), "must be keys and values")
        else:
            inner = [one.name.partition(".")[2] for one in FIELDS if one.name.startswith(f"{key}.")]
            for part, one in value.items():
                if part not in inner:
                    unknown((key, part), inner)
                elif why := wrong(_BY_NAME[f"{key}.{part}"], one):
                    fault((key, part), why)
                elif one is not None:
                    found[f"{key}.{part}"] = one
    faults.extend(text for _, text in sorted(told, key=lambda one: one[0]))
    return found


def _keymap(value: Any, check: KeymapFaults | None, fault: Any) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        fault(("keymap",), 'must be keys and values, such as "panel: zoom": z')
        return {}
    made: dict[str, tuple[str, ...]] = {}
    for name, keys in value.items():
        read = key_list(keys)
        if read is None:
            fault(("keymap", name), f"must be a key or a list of keys, got {keys}")
        else:
            made[name] = read
    for name, why in check(made) if check is not None else ():
        fault(("keymap", name), why)
    return made
