"""What the Start screen lists: what is up, what can be started, models, GPUs, and what was there lately.

Each row that can be chosen means a command line (:func:`command_line`), which does the same from a shell.
``None`` is what is not known, and is drawn as ``--``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rvtop.contract.handle import Choice


@dataclass(frozen=True, slots=True)
class UpRow:
    """A server that is up. ``why`` says in one line why it can't be watched now; empty: it can."""

    name: str
    url: str
    topology: str
    models: tuple[str, ...] = ()
    state: str = "ready"
    up_s: float | None = None
    why: str = ""

    @property
    def choice(self) -> Choice:
        """To attach to it; of several models all are meant."""
        return Choice(url=self.url, models=self.models if len(self.models) > 1 else ())


@dataclass(frozen=True, slots=True)
class Offer:
    """A topology. One that can't run here says ``why`` and how to ``fix`` it; ``note`` is what one that can
    should be known for. ``last_start_s``: what its start is expected to take. ``kubernetes``: there are
    manifests for it."""

    name: str
    about: str  # one line
    engine: str = ""
    where: str = ""  # where it runs
    route: str = ""  # how a request gets there
    adds: str = ""  # what it adds to the one before
    why: str = ""
    fix: str = ""
    note: str = ""
    last_start_s: float | None = None
    kubernetes: bool = False

    @property
    def available(self) -> bool:
        """Whether it can be started here."""
        return not self.why


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model that a topology can serve. ``by_default``: it is served when no model is named."""

    name: str
    source: str  # folder, or a model that is built here
    about: str = ""
    size: float | None = None  # bytes
    by_default: bool = False


#: A driver holds some memory of a GPU that no process uses.
_IN_USE = 0.05


def gpu_is_free(used: float, total: float) -> bool:
    """Whether no process uses a GPU that has so many of its ``total`` bytes in use."""
    return used / total < _IN_USE


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU of this machine; memory in bytes."""

    index: int
    name: str
    used: float | None = None
    total: float | None = None

    @property
    def free(self) -> bool | None:
        """Whether nearly nothing of its memory is in use; None where that is not known."""
        if self.used is None or not self.total:
            return None
        return gpu_is_free(self.used, self.total)


@dataclass(frozen=True, slots=True)
class RecentRow:
    """A server that was attached to, or a run folder; exactly one of ``url`` and ``folder``. ``why``: of a
    server that gives no answer, in a word or two."""

    url: str = ""
    folder: str = ""
    about: str = ""
    age_s: float | None = None
    why: str = ""

    @property
    def name(self) -> str:
        return self.url or self.folder


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine. ``cpu`` 0..1 of all cores; ``versions`` of what is installed; ``ray``: one line about a
    cluster."""

    name: str = ""
    cores: int | None = None
    cpu: float | None = None
    versions: tuple[tuple[str, str], ...] = ()
    ray: str = ""


@dataclass(frozen=True, slots=True)
class StartFacts:
    """All of it. ``complete`` is False for what is known before anything was looked for."""

    offers: tuple[Offer, ...] = ()
    up: tuple[UpRow, ...] = ()
    models: tuple[ModelRow, ...] = ()
    gpus: tuple[GpuRow, ...] = ()
    recent: tuple[RecentRow, ...] = ()
    machine: Machine = Machine()
    complete: bool = False


#: What is known at once; asked for as the Start screen or the switch is shown.
FirstFacts = Callable[[], StartFacts]
#: Looks for all of it; may take seconds, so it is called in a thread.
LookAround = Callable[[], StartFacts]


def model_options(models: Sequence[ModelRow], ticked: frozenset[str]) -> tuple[str, ...]:
    """``name=source`` of the ``ticked`` models; none where they are those that are served by default."""
    chosen = [model for model in models if model.name in ticked]
    if not chosen or all((model.name in ticked) == model.by_default for model in models):
        return ()
    return tuple(f"{model.name}={model.source}" for model in chosen)


def command_line(choice: Choice) -> str:
    """What does the same from a shell."""
    if choice.url is not None:
        models = [word for model in choice.models for word in ("--model", model)]
        return shlex.join(["rvtop", "attach", choice.url, *models])
    return shlex.join(["rvtop", *start_words(choice.topology or "", choice.models, choice.arguments)])


def start_words(topology: str, models: Sequence[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """The options by which `rvtop` and `rvtop run` start a topology; ``models`` as ``name=source``."""
    named = [word for model in models for word in ("--model", model)]
    further = ["--backend-options", shlex.join(arguments)] if arguments else []
    return ("--topology", topology, *named, *further)


def kubernetes_line(choice: Choice) -> str:
    """What writes the manifests of a topology and applies them. Only a model of the Hub is named: a folder of
    this machine is in no pod, and without ``--model`` MODEL_ID names it."""
    folder = f"{choice.topology}-k8s"
    named = [model for model in choice.models if not model.partition("=")[2].startswith(("/", ".", "~"))]
    models = ["--model", named[0]] if len(named) == 1 and "/" in named[0] else []
    deploy = ["rvtop", "deploy", "k8s", choice.topology or "", *models, "--out", folder]
    return f"{shlex.join(deploy)} && kubectl apply -k {shlex.quote(folder)}/overlays/production"


def report_line(folder: str) -> str:
    """What prints the figures of a run."""
    return shlex.join(["rvtop", "report", folder])


def replay_line(folder: str) -> str:
    """What plays a run."""
    return shlex.join(["rvtop", "replay", folder])
