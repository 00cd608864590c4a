"""What a scenario sends: the kinds of workload, as frozen classes.

``rvtop.workload.prepare`` turns one into the run's ``prompts.jsonl``. Lengths are in tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rvtop.scenario.lengths import Length, average, highest
from rvtop.scenario.part import Count, Flag, Mistake, Number, Part, Seconds, Text

DEFAULT_MAX_TOKENS = 256
MAX_TURNS = 1000
#: Every load worker holds all prompts in memory, so what is made up must stay below this.
MAX_PROMPT_BYTES = 2 << 30
#: Bytes of made-up text to a token, rounded up: a short word and a space.
BYTES_A_TOKEN = 6

Share = Annotated[Number, Field(gt=0, le=1)]


class _Workload(Part):
    """What all kinds share. ``temperature`` None leaves it to the server."""

    temperature: Annotated[Number, Field(ge=0, le=2)] | None = 0.0

    @property
    def timed(self) -> bool:
        """Whether every prompt has a time of its own (``at_s``) to be sent at."""
        return False

    @property
    def output_limit(self) -> int | None:
        """``max_tokens`` of every request that has none of its own; None when each has its own."""
        return None

    @property
    def output_mean(self) -> float | None:
        """Mean of the output tokens asked for, None when only the file knows."""
        return self.output_limit

    @property
    def turns_mean(self) -> float | None:
        """Mean number of requests in a conversation, None when only the file knows."""
        return 1.0

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """The files and folders it names, each with its key."""
        return ()


class RagWorkload(_Workload):
    """Questions answered from a document index.

    ``where: client``: prompts are expanded before the load starts, from ``questions`` (a file, one a
    line, or ``sample``) and ``index`` (a folder, ``sample``, or None: the usual place). ``where:
    server``: the question goes out as it is and the server retrieves.
    """

    kind: Literal["rag"]
    where: Literal["client", "server"] = "client"
    questions: Text = "sample"
    index: Text | None = None
    top_k: Annotated[Count, Field(le=100)] = 4
    max_tokens: Count = DEFAULT_MAX_TOKENS
    ignore_eos: Flag = False

    def contradictions(self) -> Iterator[Mistake]:
        if self.where == "server" and self.index is not None:
            yield Mistake("is for where: client only (the server has its own index)", "index", ("where",))

    @property
    def output_limit(self) -> int:
        return self.max_tokens

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        named = (("questions", self.questions), ("index", self.index))
        return tuple((key, Path(name)) for key, name in named if name is not None and name != "sample")


class PromptsWorkload(_Workload):
    """Prompts from a file, in turn: ``.jsonl`` (id, messages or prompt, max_tokens, turns), ``.txt`` (one a
    line), or ShareGPT conversations (``.json``, a list; ``.jsonl`` with ``format: sharegpt``); ``format:
    aiperf``: AIPerf's single and multi turn files in turn, ``aiperf-pool``: its random pool, of which
    ``limit`` are drawn (None: as many as it holds), some more than once.

    Of a ShareGPT conversation the first question goes out, with the estimated length of the recorded
    answer as its output length unless ``max_tokens`` is given; with ``multi_turn`` the whole
    conversation, the recorded answers as its history, ``think_s`` between an answer and the next
    question. ``limit`` takes the first so many prompts.
    """

    kind: Literal["prompts"]
    file: Annotated[Text, Field(pattern=r"\.(jsonl|txt|json)$")]
    format: Literal["sharegpt", "aiperf", "aiperf-pool"] | None = None
    max_tokens: Count | None = None
    multi_turn: Flag = False
    think_s: Seconds | None = Field(default=None, alias="think")
    limit: Count | None = None
    ignore_eos: Flag = False

    def contradictions(self) -> Iterator[Mistake]:
        if self.format is not None and self.file.endswith(".txt"):
            yield Mistake(f"{self.format} is a .json or .jsonl file", "format", ("file",))
        if self.format not in (None, "sharegpt") and self.file.endswith(".json"):
            yield Mistake(f"{self.format} is a .jsonl file", "format", ("file",))
        if self.multi_turn and not self.sharegpt:
            text = "is for format: sharegpt only (rows of .jsonl have their own turns)"
            yield Mistake(text, "multi_turn", ("file", "format"))
        if self.think_s is not None and not self.multi_turn:
            yield Mistake("is for multi_turn: true only", "think", ("multi_turn",))

    @property
    def sharegpt(self) -> bool:
        return self.format == "sharegpt" or (self.format is None and self.file.endswith(".json"))

    @property
    def output_limit(self) -> int | None:
        if self.max_tokens is None and not self.sharegpt:
            return DEFAULT_MAX_TOKENS
        return self.max_tokens

    @property
    def turns_mean(self) -> float | None:
        return None if self.multi_turn else 1.0

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        return (("file", Path(self.file)),)


class SyntheticWorkload(_Workload):
    """``count`` made-up prompts of ``prompt_tokens``, each answered with exactly ``output_tokens``.

    ``prefix_share`` of them begin with one of ``prefixes`` shared texts of ``prefix_tokens``, which come on
    top of ``prompt_tokens``. With ``turns`` above 1 each is a conversation whose next question, again of
    ``prompt_tokens``, comes ``think_s`` after the answer to the one before.
    """

    kind: Literal["synthetic"]
    prompt_tokens: Length
    output_tokens: Length
    count: Annotated[Count, Field(le=10_000_000)] = 512
    prefix_tokens: Annotated[Count, Field(le=10_000_000)] | None = None
    prefix_share: Share = 1.0
    prefixes: Count = 1
    turns: Length = 1
    think_s: Seconds | None = Field(default=None, alias="think")
    ignore_eos: Flag = True

    def contradictions(self) -> Iterator[Mistake]:
        if self.prefix_tokens is None:
            for key in ("prefix_share", "prefixes"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield Mistake(
                        "needs prefix_tokens, the length of a shared prefix", key, ("prefix_tokens",)
                    )
        elif self.prefixes > self.prefixed:
            text = f"is more than the {self.prefixed} prompts that begin with one"
            yield Mistake(text, "prefixes", ("count", "prefix_share", "prefix_tokens"))
        if highest(self.turns) > MAX_TURNS:
            yield Mistake(f"must be at most {MAX_TURNS} (give a distribution a max)", "turns")
        if self.think_s is not None and highest(self.turns) == 1:
            yield Mistake("is for turns: 2 or more", "think", ("turns",))
        gib = self._bytes / (1 << 30)
        if self._bytes > MAX_PROMPT_BYTES:
            key = "count" if "count" in self.model_fields_set else "prompt_tokens"
            text = f"about {gib:.3g} GiB of prompts for each worker to hold; lower count or the lengths"
            yield Mistake(text, key, ("count", "prompt_tokens", "prefix_tokens", "turns"))

    @property
    def _bytes(self) -> float:
        own = self.count * self.turns_mean * average(self.prompt_tokens)
        return BYTES_A_TOKEN * (own + self.prefixed * (self.prefix_tokens or 0))

    @property
    def prefixed(self) -> int:
        """How many of the prompts begin with a shared prefix."""
        return round(self.count * self.prefix_share) if self.prefix_tokens is not None else 0

    @property
    def output_limit(self) -> int | None:
        return self.output_tokens if isinstance(self.output_tokens, int) else None

    @property
    def output_mean(self) -> float:
        return average(self.output_tokens)

    @property
    def turns_mean(self) -> float:
        return average(self.turns)


class TasksWorkload(_Workload):
    """Tasks of agents: requests that follow one another, a tool at work between them (docs/agents.md).

    From ``file`` (rows of our own, or sessions of another ``format``), or made: ``count`` tasks of ``steps``
    requests. The first asks ``prompt_tokens`` (after ``prefix_tokens`` that all tasks share: instructions
    and tools), each further one adds ``growth_tokens``
    to all that was said before it, ``tool_ms`` after the answer. Before a ``fan_share`` of the steps a task
    forks into ``fan_out`` branches, which the next step joins.
    """

    kind: Literal["tasks"]
    file: Annotated[Text, Field(pattern=r"\.(jsonl|json)$")] | None = None
    format: Literal["aiperf", "otel", "weka"] | None = None
    limit: Count | None = None
    count: Annotated[Count, Field(le=1_000_000)] = 50
    steps: Length = 6
    prompt_tokens: Length | None = None
    growth_tokens: Length | None = None
    output_tokens: Length | None = None
    prefix_tokens: Annotated[Count, Field(le=10_000_000)] | None = None
    tool_ms: Length | None = None
    fan_out: Length = 3
    fan_share: Share | None = None
    ignore_eos: Flag = True

    @classmethod
    def misplaced(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        made = [key for key in _MADE if key in data]
        if "file" in data:
            yield from (Mistake("is for tasks that are made, not for those of a file", key) for key in made)
        else:
            for key in ("limit", "format"):
                if key in data:
                    yield Mistake("is for a file; count says how many tasks are made", key)
        for key in ("prompt_tokens", "growth_tokens", "output_tokens"):
            if "file" not in data and key not in data:
                yield Mistake("is missing (tasks are made of lengths, or give file)", key)

    def contradictions(self) -> Iterator[Mistake]:
        if highest(self.steps) > MAX_TURNS:
            yield Mistake(f"must be at most {MAX_TURNS} (give a distribution a max)", "steps")
        if self.fan_share is None and "fan_out" in self.model_fields_set:
            yield Mistake("needs fan_share, the share of the steps before which a task forks", "fan_out")
        if self.fan_share is not None and highest(self.fan_out) < 2:
            yield Mistake("must be 2 branches or more", "fan_out", ("fan_share",))
        if self._bytes > MAX_PROMPT_BYTES:
            gib = self._bytes / (1 << 30)
            text = f"about {gib:.3g} GiB of prompts for each worker to hold; lower count or the lengths"
            yield Mistake(text, "count", ("steps", "prompt_tokens", "growth_tokens", "prefix_tokens"))

    @property
    def _bytes(self) -> float:
        if self.prompt_tokens is None or self.growth_tokens is None:
            return 0.0
        own = average(self.prompt_tokens) + (average(self.steps) - 1) * average(self.growth_tokens)
        return BYTES_A_TOKEN * self.count * (own + (self.prefix_tokens or 0))

    @property
    def output_limit(self) -> int | None:
        if self.output_tokens is None:
            return DEFAULT_MAX_TOKENS
        return self.output_tokens if isinstance(self.output_tokens, int) else None

    @property
    def output_mean(self) -> float | None:
        return None if self.output_tokens is None else average(self.output_tokens)

    @property
    def turns_mean(self) -> float | None:
        return None if self.file is not None else average(self.steps)

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        return () if self.file is None else (("file", Path(self.file)),)


#: Keys of tasks that are made.
_MADE = (
    *("count", "steps", "prompt_tokens", "growth_tokens", "output_tokens", "prefix_tokens", "tool_ms"),
    *("fan_out", "fan_share"),
)


class TraceWorkload(_Workload):
    """Recorded requests, sent at their recorded times with prompts of their recorded lengths.

    ``format`` None: told by the file's name and first line. ``hash_ids`` of Mooncake's and Bailian's name
    blocks of ``block_tokens`` of the prompt (None: as the format has them); equal ids become equal text, so
    that a prefix cache sees what it saw. ``start_s`` leaves out the trace's beginning, ``limit`` takes the
    first requests (or sessions) from there, ``max_prompt_tokens`` cuts longer prompts. Sessions (AIPerf's,
    OpenTelemetry's) become tasks that begin at their recorded times.
    """

    kind: Literal["trace"]
    file: Annotated[Text, Field(pattern=r"\.(jsonl|json|csv)$")]
    format: Literal["mooncake", "bailian", "aiperf", "otel", "burstgpt", "azure"] | None = None
    start_s: Seconds | None = Field(default=None, alias="start")
    limit: Count | None = None
    max_prompt_tokens: Count | None = None
    block_tokens: Annotated[Count, Field(le=1_000_000)] | None = None
    ignore_eos: Flag = True

    def contradictions(self) -> Iterator[Mistake]:
        if self.max_prompt_tokens is not None and self.format in ("aiperf", "otel"):
            yield Mistake("is not for sessions, whose prompts grow", "max_prompt_tokens", ("format",))

    @property
    def timed(self) -> bool:
        return True

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        return (("file", Path(self.file)),)


class PluginWorkload(_Workload):
    """Prompts of a package that adds some (docs/plugins.md): ``name`` is its entry point, ``options`` are
    handed to it as they are."""

    kind: Literal["plugin"]
    name: Text
    options: dict[str, Any] = Field(default_factory=dict)
    max_tokens: Count = DEFAULT_MAX_TOKENS
    ignore_eos: Flag = False

    @property
    def output_limit(self) -> int:
        return self.max_tokens


Workload = Annotated[
    RagWorkload | PromptsWorkload | SyntheticWorkload | TasksWorkload | TraceWorkload | PluginWorkload,
    Field(discriminator="kind"),
]
