"""The Hugging Face engine as an application that Ray Serve itself deploys, without a head of ours: what
``import_path: backends.serve.app:build`` of a Serve config (and so of KubeRay's RayService) names.

One application is one model. Its path prefix answers the API of the other topologies, ``/v1/models`` and
``/health`` included; figures are on Ray's own pages. How many replicas there are and what each reserves says
the entry ``hf`` in the config's ``deployments``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backends.cluster.cluster import ResourceShare
from backends.cluster.hf_actor import engine_spec
from backends.errors import UsageError
from backends.serve.model_app import App
from backends.serve.replica import application
from backends.settings.environment import MODEL_ENV
from backends.settings.options import DTYPES, ModelSpec, Options
from backends.settings.serve import ServeOptions

TOPOLOGY = "rsc"
#: What ``args`` may hold: the type of each, and what it is where it is left out.
ARGS: dict[str, tuple[type, Any]] = {
    "model": (str, None),
    "dtype": (str, "auto"),
    "max_model_len": (int, None),
    "concurrency": (int, None),
    "threads": (int, 1),
    "num_cpus": (int, 1),
    "num_gpus": (int, 0),
    "seed": (int, 0),
    "batch": (int, None),
    "trust_remote_code": (bool, False),
}
_AT_LEAST = {"max_model_len": 2, "concurrency": 1, "threads": 1, "num_cpus": 1, "num_gpus": 0, "batch": 1}


def build(args: dict[str, Any]) -> Any:
    """The application of one model. ``args`` are those of :data:`ARGS`; without ``model`` (``NAME=SOURCE``,
    or a source alone) the environment's MODEL_ID says it. Raises UsageError."""
    given = _checked(args)
    model = _model(given["model"], os.environ)
    options = Options(
        topology=TOPOLOGY,
        models=(model,),
        listener=None,  # type: ignore[arg-type]  # Serve has it
        engine_concurrency=given["batch"] or given["concurrency"],
        dtype=given["dtype"],
        max_model_len=given["max_model_len"],
        seed=given["seed"],
        trust_remote_code=given["trust_remote_code"],
        serve=ServeOptions(batch=given["batch"]),
    )
    share = ResourceShare(model.name, given["num_cpus"], given["num_gpus"], given["threads"])
    spec = replace(engine_spec(0, share, options), engine=TOPOLOGY)  # replicas add their own ids
    app = App(TOPOLOGY, "/", model.name, model.source, share, 1)
    return application(spec, options, None, share.options, app)


def _checked(args: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in args if name not in ARGS]
    if unknown:
        raise UsageError(f"args: {unknown[0]}: unknown; there are {', '.join(ARGS)}")
    found = {name: default for name, (_, default) in ARGS.items()}
    for name, value in args.items():
        kind = ARGS[name][0]
        if type(args[name]) is not kind:
            raise UsageError(f"args: {name}: {value!r} must be of type {kind.__name__}")
        if name in _AT_LEAST and value < _AT_LEAST[name]:
            raise UsageError(f"args: {name}: {value} must be at least {_AT_LEAST[name]}")
        found[name] = value
    if found["dtype"] not in DTYPES:
        raise UsageError(f"args: dtype: {found['dtype']} must be one of {', '.join(DTYPES)}")
    return found


def _model(given: str | None, environ: Mapping[str, str]) -> ModelSpec:
    text = given or environ.get(MODEL_ENV, "").strip()
    if not text:
        raise UsageError(f"args: model: give NAME=SOURCE, or set {MODEL_ENV} where the application runs")
    name, equals, source = text.partition("=")
    if not equals:
        name, source = text.rstrip("/").rpartition("/")[2], text
    if not name or not source:
        raise UsageError(f"args: model: {text!r}: write NAME=SOURCE, for example tiny=tiny")
    return ModelSpec(name, source)
