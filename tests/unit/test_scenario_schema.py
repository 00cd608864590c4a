"""The JSON Schema of scenario files: that of the classes, and as strict as it can be."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

import rvtop.scenario.json_schema
from rvtop.cli.groups import scenario_app
from rvtop.scenario.json_schema import json_schema, schema_text
from rvtop.scenario.load import find_scenario, shipped_scenarios

LOAD = {"name": "a", "rate": 1, "duration": "1s"}


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def faults(scenario: Any) -> list[str]:
    return [fault.message for fault in validator().iter_errors(scenario)]


def test_the_file_is_what_the_classes_make() -> None:
    file = Path(rvtop.scenario.json_schema.__file__).with_name("scenario.schema.json")
    assert json.loads(file.read_text("utf-8")) == json_schema()


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(scenario_app, ["schema"])
    assert (result.exit_code, result.stdout) == (0, schema_text())


@pytest.mark.parametrize("name", shipped_scenarios())
def test_each_shipped_scenario_keeps_to_it(name: str) -> None:
    assert faults(yaml.safe_load(find_scenario(name).read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "phase",
    [
        LOAD,
        LOAD | {"duration": 10, "drain": "1m 30s"},
        LOAD | {"rate": {"from": 1, "to": 2, "shape": "step", "steps": 4}},
        LOAD | {"changes": [{"at": 1, "rate": "plan"}]},
        LOAD | {"changes": [{"at": 1, "from": 2, "rate": 8, "over": "3s", "shape": "exponential"}]},
        {"name": "a", "rounds": {"sizes": [1, 6]}},
        {"name": "a", "concurrency": 4, "requests": 9},
    ],
)
def test_phases_that_it_takes(phase: dict[str, Any]) -> None:
    assert faults({"workload": {"kind": "rag"}, "phases": [phase]}) == []


@pytest.mark.parametrize(
    ("changed", "phase"),
    [
        ({}, LOAD | {"duration": "10 sec"}),
        ({}, LOAD | {"duration": -1}),
        ({}, LOAD | {"raet": 1}),
        ({}, LOAD | {"rate": {"from": 1}}),
        ({}, LOAD | {"rate": "fast"}),
        ({}, LOAD | {"rounds": {"sizes": [1]}}),
        ({}, {"name": "a", "rate": 1}),
        ({}, {"name": "a", "concurrency": 4}),
        ({}, {"name": "a", "concurrency": 4, "requests": 9, "duration": 1}),
        ({"phases": []}, LOAD),
        ({"seed": -1}, LOAD),
        ({"workload": {"kind": "poem"}}, LOAD),
        ({"workload": {"kind": "rag", "prompt_tokens": 9}}, LOAD),
        ({"thresholds": {"ttft_p99": 1}}, LOAD),
        ({"slo": {"ttft_ms": 0}}, LOAD),
    ],
)
def test_what_it_refuses(changed: dict[str, Any], phase: dict[str, Any]) -> None:
    assert faults({"workload": {"kind": "rag"}, "phases": [phase], **changed})
