"""vLLM's own parser behind ours: what it refuses, in its words. In a process of its own, because importing
vLLM changes the environment of whoever does it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [
    # Looked for and not imported: that takes seconds in each process that collects tests.
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(900),  # the first one may have to wait for the local model, which is trained once
]

CASES: dict[str, list[list[str]]] = {
    "plain": [],
    "switches": [
        ["enable_prefix_caching", "false"],
        ["enable-chunked-prefill", "true"],
        ["max_num_seqs", "5"],
    ],
    "last wins": [["max-num-seqs", "5"], ["max_num_seqs", "6"]],
    "json": [["hf_overrides", '{"rope_theta": 5.0}']],
    "kv given": [["num_gpu_blocks_override", "40"]],
    "dummy": [["load-format", "dummy"]],
    "no such argument": [["warp_speed", "9"]],
    "no number": [["max_num_seqs", "many"]],
    "no switch": [["enforce_eager", "perhaps"]],
    "no such choice": [["kv_cache_dtype", "int3"]],
    "too long": [["max_model_len", "999999"]],
    "no such quantisation": [["quantization", "magic"]],
    "no such model": [["model", "/no/such/folder"]],
}

SCRIPT = """
import json, sys
from backends.engines.vllm_args import engine_config
from backends.errors import StartFailure

from vllm.engine.arg_utils import AsyncEngineArgs

make_config, said_to_be = AsyncEngineArgs.create_engine_config, set()

def recorded(args, usage_context=None, **more):
    said_to_be.add(getattr(usage_context, "value", None))
    return make_config(args, usage_context, **more)

AsyncEngineArgs.create_engine_config = recorded
model, cases = sys.argv[1], json.loads(sys.argv[2])
for name, extra in cases.items():
    base = [("model", model), ("dtype", "float32"), ("enforce-eager", "True")]
    try:
        args, made = engine_config([*base, *map(tuple, extra)], on_cpu=True)
    except StartFailure as error:
        result = {"kind": error.kind, "message": str(error)}
    else:
        config = made
        result = {
            "prefix": config.cache_config.enable_prefix_caching,
            "chunked": config.scheduler_config.enable_chunked_prefill,
            "seqs": config.scheduler_config.max_num_seqs,
            "kv_bytes": args.kv_cache_memory_bytes,
            "rope": args.hf_overrides,
            "load": str(config.load_config.load_format),
        }
    print("RESULT", json.dumps({name: result}))
print("RESULT", json.dumps({"told": {"to be": list(said_to_be)}}))
"""

#: What is read out of a text with a tool call, whole and token by token, by the parser of a name.
TOOLS = """
from transformers import AutoTokenizer

from backends.api.request import parse_call
from backends.api.vllm_tools import VllmTools
from backends.engines.protocol import Delta, Finish
from backends.errors import ApiError

tokenizer = AutoTokenizer.from_pretrained(model)
tool = {"type": "function", "function": {"name": "days_off", "parameters": {"type": "object"}}}
said = 'Sure. <tool_call>\\n{"name": "days_off", "arguments": {"year": 2024}}\\n</tool_call>'
named = {"type": "function", "function": {"name": "nope"}}

def call(choice, messages=({"role": "user", "content": "q"},)):
    body = {"messages": messages, "tools": [tool], "tool_choice": choice}
    return parse_call("chat", json.dumps(body).encode())

tools = VllmTools("hermes", tokenizer, config.model_config)
use = tools.use(call("auto"))
ids = tokenizer.encode(said, add_special_tokens=False)
reader = use.reader((1,))
result = {"whole": reader.whole(said, ids), "reason": reader.reason("stop")}
reader = use.reader((1,))
ends = [None] * (len(ids) - 1) + [Finish("stop")]
parts = [reader.part(Delta(tokenizer.decode([i]), (i,), end)) for i, end in zip(ids, ends)]
result |= {"parts": [part for part in parts if part], "streamed reason": reader.reason("stop")}
plain = use.reader((1,))
result |= {"plain": plain.whole("No.", [1]), "plain reason": plain.reason("stop")}
result["bound"] = sorted(tools.use(call("required")).special)
result["free"] = sorted(tools.use(call("none")).special)
for key, make in {
    "unknown tool": lambda: tools.use(call(named)),
    "unknown choice": lambda: tools.use(call("maybe")),
    "unknown parser": lambda: VllmTools("magic", tokenizer, config.model_config),
}.items():
    try:
        make()
    except (ApiError, StartFailure) as error:
        result[key] = [getattr(error, "status", None) or error.kind, str(error)]
print("RESULT", json.dumps({"tools": result}))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    from backends.models.tiny.tiny import ensure_model

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + TOOLS, str(ensure_model("tiny")), json.dumps(CASES)],
        capture_output=True,
        text=True,
        timeout=800,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": ""},
        cwd=tmp_path_factory.mktemp("vllm"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return {name: result for line in lines for name, result in json.loads(line).items()}


def test_arguments_arrive_with_their_types(results: dict[str, dict[str, Any]]) -> None:
    switched = results["switches"]
    assert (switched["prefix"], switched["chunked"], switched["seqs"]) == (False, True, 5)
    assert results["last wins"]["seqs"] == 6
    assert results["json"]["rope"] == {"rope_theta": 5.0}
    assert results["dummy"]["load"].endswith("dummy")


def test_vllm_is_told_that_it_serves(results: dict[str, dict[str, Any]]) -> None:
    """Its defaults follow: on a large GPU four times the tokens a step."""
    assert results["told"]["to be"] == ["OPENAI_API_SERVER"]


def test_keys_and_values_get_room_for_64_contexts_but_not_the_machine(
    results: dict[str, dict[str, Any]],
) -> None:
    # 2 layers × (keys, values) × 2 heads × 32 × 4 bytes a token, 4096 tokens a context
    assert results["plain"]["kv_bytes"] == 64 * 4096 * 2 * 2 * 2 * 32 * 4
    assert results["kv given"]["kv_bytes"] is None


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no such argument", "unrecognized arguments: --warp-speed=9"),
        ("no number", "argument --max-num-seqs"),
        ("no switch", "--enforce-eager: 'perhaps'"),
        ("no such choice", "int3"),
        ("too long", "max_model_len (999999) is greater than the derived max_model_len"),
        ("no such quantisation", "magic"),
    ],
)
def test_what_vllm_refuses_is_bad_usage_in_its_words(
    results: dict[str, dict[str, Any]], case: str, words: str
) -> None:
    refused = results[case]
    assert refused["kind"] == "usage"
    assert refused["message"].startswith("vLLM: ")
    assert words in refused["message"]
    assert "\n" not in refused["message"]
    assert "Traceback" not in refused["message"]


def test_a_model_that_is_not_there_is_no_bad_usage_of_vllm(results: dict[str, dict[str, Any]]) -> None:
    refused = results["no such model"]
    assert "/no/such/folder" in refused["message"]
    assert "\n" not in refused["message"]


def test_tool_calls_are_read_by_vllms_parser(results: dict[str, dict[str, Any]]) -> None:
    tools = results["tools"]
    (call,) = tools["whole"]["tool_calls"]
    assert call["function"]["name"] == "days_off"
    assert json.loads(call["function"]["arguments"]) == {"year": 2024}
    assert tools["whole"]["content"].strip() == "Sure."
    assert (tools["reason"], tools["streamed reason"], tools["plain reason"]) == (
        "tool_calls",
        "tool_calls",
        "stop",
    )
    parts = [part["function"] for said in tools["parts"] for part in said.get("tool_calls") or ()]
    assert [part["name"] for part in parts if part.get("name")] == ["days_off"]
    assert json.loads("".join(part.get("arguments") or "" for part in parts)) == {"year": 2024}
    assert "".join(said.get("content") or "" for said in tools["parts"]).strip() == "Sure."
    assert tools["plain"] == {"content": "No."}


def test_a_tool_that_has_to_be_called_binds_the_sampling(results: dict[str, dict[str, Any]]) -> None:
    assert "structured_outputs" in results["tools"]["bound"]
    assert "structured_outputs" not in results["tools"]["free"]


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("unknown tool", 400, "does not match any"),
        ("unknown choice", 400, "maybe"),
        ("unknown parser", "usage", "hermes"),
    ],
)
def test_what_vllms_parser_refuses(
    results: dict[str, dict[str, Any]], case: str, code: int | str, words: str
) -> None:
    refused, message = results["tools"][case]
    assert refused == code
    assert words in message
    assert "\n" not in message
