"""Which server fits: vLLM's own, or vLLM behind Ray Serve. Four questions decide; all four answers have to
speak for vLLM's own server, one that speaks against it is enough for Ray Serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VLLM = "vllm"
RSV = "rsv"
#: In the order of the table's columns.
CHOICES = (VLLM, RSV)
TITLES = {VLLM: "vLLM's own server", RSV: "vLLM behind Ray Serve (Ray Serve LLM)"}


@dataclass(frozen=True, slots=True)
class Question:
    """``alone`` is the answer that vLLM's own server needs; ``yes`` and ``no`` are the options that answer
    it, ``because`` says why the other answer leads to Ray Serve."""

    key: str
    text: str
    alone: bool
    yes: str
    no: str
    because: str


#: In the order in which they are asked.
QUESTIONS = (
    Question(
        *("single_model", "Is it a single model that is served?", True),
        *("--single-model", "--several-models", "several models behind one address"),
    ),
    Question(
        *("pipeline", "Is it a pipeline (retrieval, reranking, several models in one answer)?", False),
        *("--pipeline", "--no-pipeline", "a pipeline in one service"),
    ),
    Question(
        *("fine_scaling", "Does each part have to scale by itself, by its queue or latency?", False),
        *("--fine-scaling", "--no-fine-scaling", "replicas that scale by requests"),
    ),
    Question(
        *("least_complexity", "Does simple operation come first?", True),
        *("--least-complexity", "--any-complexity", "room for a cluster to operate"),
    ),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload, what it runs on best, why, and the shipped scenario that is like it; ``needs`` is the
    question whose answer it belongs to, empty: to none; ``more`` are further options of its run."""

    name: str
    topology: str
    why: str
    scenario: str
    needs: str = ""
    more: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What runs it on the small models."""
        return " ".join(("rvtop run", self.scenario, "--topology", self.topology, *self.more))


_TWO = ("--model", "a=tiny", "--model", "b=tiny:large")
WORKLOADS = (
    Workload("chat API", VLLM, "one request, one answer; little to operate", "chat"),
    Workload(
        "gateway to several models", RSV, "one address, a version each", "gateway", "single_model", _TWO
    ),
    Workload("RAG", RSV, "embed, search and generate as one pipeline", "rag-long", "pipeline"),
    Workload("agents", RSV, "several calls and tools behind one answer", "agent", "pipeline"),
    Workload("batches", RSV, "many replicas at work side by side", "batch", "fine_scaling"),
    Workload("low latency", VLLM, "the least between client and engine", "steady"),
)


def decide(answers: Mapping[str, bool]) -> str:
    """The topology that ``answers`` (of some or all questions, by key) lead to; empty while that is open."""
    if any(answers.get(one.key, one.alone) != one.alone for one in QUESTIONS):
        return RSV
    return VLLM if all(one.key in answers for one in QUESTIONS) else ""


def why(answers: Mapping[str, bool]) -> str:
    """What led there, in a few words."""
    against = [one.because for one in QUESTIONS if answers.get(one.key, one.alone) != one.alone]
    return ", ".join(against) or "a single model, no pipeline, no scaling by requests, simple operation first"


def fitting(answers: Mapping[str, bool]) -> tuple[Workload, ...]:
    """The workloads that ``answers`` tell of; where they tell of none, all that run best there."""
    topology = decide(answers)
    there = tuple(one for one in WORKLOADS if one.topology == topology)
    against = {one.key for one in QUESTIONS if answers.get(one.key, one.alone) != one.alone}
    return tuple(one for one in there if one.needs in against) or there


def start_command(answers: Mapping[str, bool]) -> str:
    """What starts the topology that ``answers`` lead to, with a user's own models."""
    models = 2 if answers.get("single_model") is False else 1
    words = ["rvtop up", decide(answers), *(f"--model NAME{number}=PATH" for number in range(1, models + 1))]
    if answers.get("fine_scaling"):
        words.append("--autoscale 1:4")
    return " ".join(words).replace("NAME1=", "NAME=") if models == 1 else " ".join(words)
