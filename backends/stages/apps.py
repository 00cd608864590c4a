"""The applications of a graph in Serve: one with the stages of retrieval, one of ``/analyze``, and one per
model with its LLM. The stages are deployments, so that each has its own replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from backends.api.defaults import Defaults
from backends.cluster.hf_actor import engine_spec
from backends.errors import bad_request
from backends.serve.deployment import deployment_config, placement_group
from backends.serve.model_app import App
from backends.settings.graph import ANALYSIS, LLM, RETRIEVAL
from backends.settings.options import ModelSpec, Options
from backends.stages import analyze, retrieval
from backends.stages.llm import Handles, LlmReplica
from backends.stages.shares import FREE, Units

#: Calls that a replica of a stage holds at once, batches apart: they compute one after the other.
ONGOING = 8
Bound = dict[str, tuple[str | None, Any]]  # what `serve.deploy` takes


class GraphApps:
    """``stages`` are those that there are beside the LLMs; ``models`` their applications."""

    def __init__(
        self, run: str, options: Options, stages: Sequence[str], units: Units, models: Sequence[App]
    ) -> None:
        self.stages = {
            stage: App(f"rvtop-{run}-{_part_of(stage)}", "", stage, "", units.of(stage), 1, deployment=stage)
            for stage in stages
        }
        self.models = list(models)
        self._options = replace(options, listener=None, api_key=None)  # type: ignore[arg-type]
        self._units = units
        self.token = ""  # the router's bearer

    @property
    def names(self) -> list[str]:
        """Of all applications."""
        return list(dict.fromkeys(app.app for app in (*self.stages.values(), *self.models)))

    def check(self, counts: Mapping[str, int]) -> None:
        """Raises ApiError (400) where there is no room for so many replicas: Serve would wait for it."""
        wanted = {stage: n for stage, n in counts.items() if stage not in FREE}
        needed = sum(n * (len(self.models) if stage == LLM else 1) for stage, n in wanted.items())
        if needed > self._units.total:
            told = ", ".join(f"{stage} {n}" for stage, n in wanted.items())
            raise bad_request(
                f"There is room for {self._units.total} replicas of all stages, and {told} are {needed}.",
                "replicas",
            )

    def bound(self, counts: Mapping[str, int], defaults: Defaults) -> Bound:
        """All applications with so many replicas of each stage. What differs from what is deployed in that
        number alone touches no replica that stays."""
        made: Bound = {}
        if self._has(RETRIEVAL):
            root = self._retrieval(counts)
            made[self.stages["search"].app] = None, root
        if self._has(ANALYSIS):
            made[self.stages["merge"].app] = None, self._analysis(counts)
        for number, app in enumerate(self.models):
            made[app.app] = None, self._llm(number, app, counts, defaults)
        return made

    def _has(self, stages: Sequence[str]) -> bool:
        return any(stage in self.stages for stage in stages)

    def _retrieval(self, counts: Mapping[str, int]) -> Any:
        """The last stage, which is what Serve calls the application's ingress: the others belong to it as its
        arguments. (An LLM calls each by itself, so that it knows what each took.)"""
        options, threads = self._options, self._units.share.threads
        embed = self._deployment("embed", retrieval.Embed, counts, ongoing=2 * options.graph.embed_batch)
        search = self._deployment("search", retrieval.Search, counts)
        before = embed.bind(options, threads), search.bind(options, threads)
        if "rerank" in self.stages:
            return self._deployment("rerank", retrieval.Rerank, counts).bind(options, threads, *before)
        root = self._deployment("root", _Root, counts)
        return root.bind(*before)

    def _analysis(self, counts: Mapping[str, int]) -> Any:
        options, threads = self._options, self._units.share.threads
        first, last = options.models[0], options.models[-1 if len(options.models) == 1 else 1]

        def judge(stage: str, model: ModelSpec) -> Any:
            return self._deployment(stage, analyze.Judge, counts).bind(stage, model, options, threads)

        prepare = self._deployment("preprocess", analyze.Preprocess, counts, ongoing=4 * ONGOING).bind(
            threads
        )
        merge = self._deployment("merge", analyze.Merge, counts, ongoing=4 * ONGOING)
        return merge.bind(threads, prepare, judge("sentiment", first), judge("topic", last))

    def _llm(self, number: int, app: App, counts: Mapping[str, int], defaults: Defaults) -> Any:
        spec = replace(engine_spec(number, app.share, self._options), engine=f"{LLM}-{number}")
        deployment = self._deployment(
            LLM, LlmReplica, counts, ongoing=spec.concurrency, version=app.app, user_config=asdict(defaults)
        )
        return deployment.bind(
            spec, self._options, self.token, self._options.graph.first(LLM), self._handles()
        )

    def _handles(self) -> Handles | None:
        if not self._has(RETRIEVAL):
            return None
        from ray.serve.handle import DeploymentHandle

        def handle(stage: str) -> Any:
            """(`serve.get_deployment_handle` would want the stage to be there already.)"""
            return DeploymentHandle(stage, self.stages[stage].app)

        rerank = handle("rerank") if "rerank" in self.stages else None
        return Handles(handle("embed"), handle("search"), rerank)

    def _deployment(
        self,
        stage: str,
        kind: type,
        counts: Mapping[str, int],
        *,
        ongoing: int = ONGOING,
        version: str = "",
        **further: Any,
    ) -> Any:
        from ray import serve

        share = self._units.of(stage) if stage != "root" else self._units.of("merge")
        resources = {"num_cpus": share.num_cpus, "num_gpus": share.num_gpus}
        made = serve.deployment(
            name=stage,
            max_constructor_retry_count=1,
            # The figures are for the head; the callers do not need them.
            request_router_config={"request_routing_stats_period_s": 3600.0},
            **deployment_config(self._options, resources, ongoing, counts.get(stage, 1)),
            **placement_group(self._options, resources),
            **further,
        )(kind)
        # Without a version Serve takes each deployment for one of new code, whose replicas all start anew.
        made._version = version or stage
        return made


class _Root:
    """Where there is no last stage of retrieval: an application has to have one that all others belong to."""

    def __init__(self, *_before: Any) -> None:
        pass


def _part_of(stage: str) -> str:
    return "retrieval" if stage in RETRIEVAL else "analysis"
