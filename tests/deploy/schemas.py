"""What an API server would refuse, without one: the built-in kinds by kubernetes-validate, those of operators
by their CRDs, closed (an unknown field is a mistake) and with their CEL rules.

The CRDs lie in a folder that RVTOP_CRDS names, and are not in the repository.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

VERSION = "1.37"
#: kind -> the file of its CRD.
CRDS = {
    "RayService": "rs_rayservices.yaml",
    "RayCluster": "rs_rayclusters.yaml",
    "NodePool": "nodepools.yaml",
    "EC2NodeClass": "ec2nodeclasses.yaml",
    "PodMonitor": "podmonitors.yaml",
    "ServiceMonitor": "servicemonitors.yaml",
    "PrometheusRule": "prometheusrules.yaml",
}


def folder() -> Path | None:
    """Where the CRDs lie; None where nobody says it."""
    named = os.environ.get("RVTOP_CRDS")
    return Path(named) if named and Path(named).is_dir() else None


def faults(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with one object, each with its place in it."""
    kind = manifest.get("kind")
    if kind in CRDS:
        schema = _crd(kind, str(manifest.get("apiVersion")))
        if schema is None:
            return [f"apiVersion: {manifest.get('apiVersion')} is not served"]
        return [*_by_schema(schema, manifest), *_by_rules(schema, manifest, "")]
    return _built_in(manifest)


def _built_in(manifest: Mapping[str, Any]) -> list[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(dict(manifest), VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(part) for part in error.path)
        return [f"{place}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"apiVersion: {error.api_version} has no {error.kind}"]
    return []


@cache
def _crd(kind: str, api_version: str) -> dict[str, Any] | None:
    """The closed schema of a served version."""
    where = folder()
    assert where is not None
    crd = yaml.load((where / CRDS[kind]).read_text("utf-8"), Loader=yaml.CSafeLoader)
    group, _, version = api_version.partition("/")
    assert crd["spec"]["names"]["kind"] == kind
    for found in crd["spec"]["versions"]:
        if crd["spec"]["group"] == group and found["name"] == version and found["served"]:
            schema: dict[str, Any] = found["schema"]["openAPIV3Schema"]
            _close(schema)
            return schema
    return None


def _close(schema: Any) -> None:
    """An object with named properties takes no others, unless the CRD keeps unknown fields."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-int-or-string") and "type" not in schema:
        schema.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
        and schema.get("type") == "object"
    ):
        schema["additionalProperties"] = False
    for part in schema.values():
        _close(part)


def _by_schema(schema: dict[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema)
    found = sorted(validator.iter_errors(manifest), key=lambda error: list(map(str, error.path)))
    return [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in found]


def _by_rules(schema: Mapping[str, Any], value: Any, place: str) -> Iterator[str]:
    """Each CEL rule at its place. Those that compare with an earlier version of the object say nothing."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{place}: {rule.get('message', rule['rule'])}"
    if isinstance(value, Mapping):
        for name, part in value.items():
            below = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(below, Mapping):
                yield from _by_rules(below, part, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, part in enumerate(value):
            yield from _by_rules(schema["items"], part, f"{place}[{number}]")


def _holds(rule: str, value: Any) -> bool:
    import celpy

    return bool(_program(rule).evaluate({"self": celpy.json_to_cel(value)}))


@cache
def _program(rule: str) -> Any:
    import celpy
    import lark.lexer
    from celpy import celtypes

    lark.lexer.has_interegular = False  # it would compare all of CEL's patterns with each other, for seconds

    def find(text: Any, pattern: Any) -> Any:
        """Kubernetes' own: the first match, or nothing."""
        found = re.search(str(pattern), str(text))
        return celtypes.StringType(found.group() if found else "")

    def split(text: Any, by: Any) -> Any:
        return celtypes.ListType([celtypes.StringType(part) for part in str(text).split(str(by))])

    limit = sys.getrecursionlimit()
    environment = celpy.Environment()
    sys.setrecursionlimit(limit)  # it raises the whole process's, and other tests meet that limit on purpose
    return environment.program(environment.compile(rule), functions={"find": find, "split": split})
