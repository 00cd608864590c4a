"""Adapters of an engine: which are there, which can be used, and that each is given to the engine once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.api.admission import Admission
from backends.api.control import Control
from backends.api.service import ServedModel, Service
from backends.engines.adapters import Adapters
from backends.engines.lora_on_cpu import with_adapter_only
from backends.engines.protocol import Adapter
from backends.engines.vllm_args import Made, made_of
from backends.engines.vllm_page import relabelled
from backends.errors import ApiError, EngineRefusal, EngineUnavailable, UsageError
from backends.models.adapters import AdapterError, AdapterFolder, base_shapes, check
from backends.models.weights import damage
from backends.settings.engine import engine_arguments
from backends.settings.lora import LoraOptions, from_args
from backends.settings.models import ModelSpec
from rvtop.target import engines
from tests.backends.test_api_http import FakeEngine, FakeRenderer

Shapes = dict[str, Sequence[int]]
LAYER = "model.layers.0.q_proj"
GOOD: Shapes = {f"base_model.model.{LAYER}.lora_A.weight": (4, 16), f"{LAYER}.lora_B.weight": (32, 4)}


def safetensors(shapes: Shapes) -> bytes:
    """A file with tensors of zeros."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def write(folder: Path, shapes: Shapes = GOOD, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors(shapes))
    told = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> AdapterFolder:
    for name in ("b", "a", ".hidden"):
        write(tmp_path / "all" / name)
    (tmp_path / "all" / "empty").mkdir()
    (tmp_path / "all" / "file").write_text("")
    return AdapterFolder(tmp_path / "all", "m")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A base model with one layer, as its files tell."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(safetensors({f"{LAYER}.weight": (32, 16)}))
    return made


class Engine(FakeEngine):
    """Remembers the adapters that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[Adapter] = []
        self.refuses: Exception | None = None

    async def add_adapter(self, adapter: Adapter) -> None:
        await asyncio.sleep(0)
        if self.refuses is not None:
            raise self.refuses
        assert (Path(adapter.path) / "adapter_model.safetensors").stat().st_size > 0
        self.added.append(adapter)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def adapters(folder: AdapterFolder, engine: Engine, model: Path, tmp_path: Path) -> Adapters:
    return Adapters(folder, engine, str(model), tmp_path / "copies", 16)


async def refusal(adapters: Adapters, name: str) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        await adapters.ready(name)
    return refused.value.status, refused.value.message


def test_a_folder_has_what_lies_in_it(folder: AdapterFolder) -> None:
    assert folder.names() == ["a", "b"]
    there = (
        "a",
        "b",
        "empty",
        "file",
        "c",
        ".hidden",
        "..",
        ".",
        "",
        "a/",
        "../all/a",
        "a\0",
        "a,b",
        "x" * 999,
    )
    assert [name for name in there if folder.has(name)] == ["a", "b", "empty"]
    assert replace(folder, path=folder.path / "nowhere").names() == []


BAD: dict[str, tuple[dict[str, Any], Shapes, str]] = {
    "no rank": ({"r": None}, GOOD, "adapter_config.json: r must be"),
    "true as a rank": ({"r": True}, GOOD, "adapter_config.json: r must be"),
    "too wide": ({"r": 64}, GOOD, "rank 64 is above this server's 16; .*max_lora_rank"),
    "no alpha": ({"lora_alpha": "8"}, GOOD, "lora_alpha must be a number"),
    "dora": ({"use_dora": True}, GOOD, "use_dora is True"),
    "biases": ({"bias": "all"}, GOOD, "bias is 'all'"),
    "whole layers": ({"modules_to_save": ["lm_head"]}, GOOD, "modules_to_save"),
    "ranks by layer": ({"rank_pattern": {"q": 2}}, GOOD, "rank_pattern"),
    "no modules": ({"target_modules": None}, GOOD, "no target_modules"),
    "another method": ({"peft_type": "IA3"}, GOOD, "peft_type is 'IA3'"),
    "no tensors": ({}, {}, "adapter_model.safetensors: holds no tensor"),
    "half a pair": ({}, {f"{LAYER}.lora_A.weight": (4, 16)}, "has only one of"),
    "another tensor": ({}, {**GOOD, "x.weight": (2, 2)}, "'x.weight' is none of a LoRA adapter"),
    "another rank": ({"r": 8}, GOOD, "is not of the rank 8"),
    "another width": (
        {},
        {f"{LAYER}.lora_A.weight": (4, 8), f"{LAYER}.lora_B.weight": (32, 4)},
        "32 × 8, and .*32 × 16",
    ),
    "another layer": (
        {},
        {
            **GOOD,
            "model.layers.9.q_proj.lora_A.weight": (4, 16),
            "model.layers.9.q_proj.lora_B.weight": (32, 4),
        },
        "the model has no model.layers.9.q_proj",
    ),
}


@pytest.mark.parametrize(("config", "shapes", "says"), BAD.values(), ids=BAD)
def test_what_an_engine_could_not_use_is_found_before(
    tmp_path: Path, model: Path, config: dict[str, Any], shapes: Shapes, says: str
) -> None:
    made = write(tmp_path / "bad", shapes, **config)
    with pytest.raises(AdapterError, match=says) as found:
        check(made, made, 16, base_shapes(model))
    assert str(made) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("shape", [None, 5, ["4", 16], [1e400, 16], [-1, 16]])
def test_weights_whose_header_has_no_shape_are_told(tmp_path: Path, shape: Any) -> None:
    made = write(tmp_path / "bad")
    header = json.dumps({"a": {"dtype": "F32", "data_offsets": [0, 8], "shape": shape}}).encode()
    (made / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(AdapterError, match=r"adapter_model.safetensors: damaged: its header has no shape"):
        check(made, made, 16, {})


def test_a_name_that_is_no_file_is_told(tmp_path: Path) -> None:
    """A file that can be found and not read: its reason, once for each surface."""
    made = write(tmp_path / "bad")
    (made / "adapter_model.safetensors").unlink()
    (made / "adapter_model.safetensors").mkdir()
    with pytest.raises(AdapterError, match="cannot be read \\(Is a directory\\)"):
        check(made, made, 16, {})
    long = write(tmp_path / "long", r="4" * 9999)
    with pytest.raises(AdapterError) as found:
        check(long, long, 16, {})
    assert len(str(found.value)) < 400


def test_a_whole_one_passes_also_where_the_model_s_files_say_nothing(tmp_path: Path, model: Path) -> None:
    made = write(tmp_path / "good", use_dora=False, bias="none", peft_type="LORA")
    assert damage(made) is None
    check(made, made, 4, base_shapes(model))
    check(made, made, 4, {})
    (model / "config.json").write_text('{"quantization_config": {}}')
    assert base_shapes(model) == {} == base_shapes(tmp_path / "nowhere")


async def test_requests_at_once_give_the_engine_an_adapter_once(adapters: Adapters, engine: Engine) -> None:
    ready = await asyncio.gather(*(adapters.ready(name) for name in "aabab"))
    assert [one.name for one in ready] == [*"aabab"]
    assert sorted(one.name for one in engine.added) == ["a", "b"]
    assert len({one.number for one in ready}) == len({one.key for one in ready}) == 2
    assert all(0 < one.number < 2**63 for one in ready)


async def test_several_processes_in_front_of_an_engine_agree(adapters: Adapters, engine: Engine) -> None:
    other = replace(adapters, _held={}, engine=engine)
    assert await adapters.ready("a") == await other.ready("a")


async def test_a_changed_adapter_is_another_and_the_old_files_stay(
    adapters: Adapters, folder: AdapterFolder
) -> None:
    old = await adapters.ready("a")
    (folder.path / "a" / "adapter_model.safetensors").write_bytes(b"")
    assert (await refusal(adapters, "a"))[0] == 400
    shutil.rmtree(folder.path / "a")
    assert await refusal(adapters, "a") == (404, "The model `a` does not exist.")
    write(folder.path / "a", lora_alpha=4)
    new = await adapters.ready("a")
    assert (new.name, new.key != old.key, new.number != old.number) == ("a", True, True)
    check(Path(old.path), Path(old.path), 4, {})


async def test_refusals_name_the_file_and_are_not_kept(
    adapters: Adapters, folder: AdapterFolder, engine: Engine
) -> None:
    status, says = await refusal(adapters, "empty")
    assert (status, str(folder.path / "empty" / "adapter_config.json") in says) == (400, True)
    (folder.path / "a" / "adapter_model.safetensors").rename(folder.path / "a" / "adapter_model.bin")
    status, says = await refusal(adapters, "a")
    assert (status, "only safetensors are served" in says) == (400, True)
    engine.refuses = EngineRefusal("no such module")
    status, says = await refusal(adapters, "b")
    assert (status, says.endswith(f"{folder.path / 'b'}: no such module")) == (400, True)
    engine.refuses = EngineUnavailable("it died")
    assert await refusal(adapters, "b") == (503, "it died")
    engine.refuses = None
    assert (await adapters.ready("b")).name == "b"
    assert not [one for one in os.listdir(adapters.copies) if one.startswith("tmp")]


# -- in a service ------------------------------------------------------------------------------------------


@pytest.fixture
def service(adapters: Adapters, engine: Engine) -> Service:
    renderer: Any = FakeRenderer()
    admission = Admission([engine], 8)
    return Service([ServedModel("m", "m", renderer, admission, 100, adapters=adapters, aliases=("chat",))])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_names_an_adapter_like_a_model(
    service: Service, engine: Engine, *, stream: bool
) -> None:
    answers = {}
    for name in ("m", "chat", "a", "b"):
        engine.say("x")
        body = {"model": name, "messages": [{"role": "user", "content": "q"}], "stream": stream}
        reply = await service.answer("chat", json.dumps(body).encode())
        text = reply.body if reply.stream is None else b"".join([part async for part in reply.stream])
        answers[name] = f'"model":"{name}"'.encode() in text.replace(b" ", b"")
    assert answers == {"m": True, "chat": False, "a": True, "b": True}
    asked = [request.adapter for request in engine.requests]
    assert asked[:2] == [None, None]
    assert asked[2:] == engine.added
    with pytest.raises(ApiError, match="does not exist"):
        await service.answer("chat", b'{"model": "c", "messages": [{"role": "user", "content": "q"}]}')


async def test_adapters_are_listed_below_their_model(service: Service, folder: AdapterFolder) -> None:
    told = await Control("rvc", [service], adapters=folder).answer("/v1/models")
    assert told is not None
    cards = json.loads(told[1])["data"]
    assert [(card["id"], card["parent"]) for card in cards] == [("m", None), ("a", "m"), ("b", "m")]
    assert cards[1]["root"] == str(folder.path / "a")


# -- around vLLM -------------------------------------------------------------------------------------------


def test_of_the_sets_of_adapters_a_page_tells_the_newest_by_their_names() -> None:
    def info(running: str, at: str) -> str:
        return f'vllm:lora_requests_info{{max_lora="2",running_lora_adapters="{running}"}} {at}'

    page = "\n".join([info("a@0123abcd,b@00000000", "2e9"), info("", "1.9e9"), info("c", "1e9")])
    shown = 'vllm:lora_requests_info{engine="e0",max_lora="2",running_lora_adapters="a,b"} 2e9\n'
    assert relabelled(page, "e0") == shown


def test_rows_without_an_adapter_are_left_alone() -> None:
    """vLLM's own operation takes the last adapter for index -1."""

    def theirs(inputs: Any, weights: Any, outputs: Any, indices: Any, scale: float) -> None:
        outputs[:] += scale * inputs * weights[indices]

    weights, rows = np.array([[10.0], [20.0]]), np.ones((4, 1))
    got = np.zeros((4, 1))
    with_adapter_only(theirs)(rows, weights, got, np.array([0, -1, 1, -1]), 2.0)
    assert got.ravel().tolist() == [20, 0, 40, 0]
    with_adapter_only(theirs)(rows, weights, got, np.array([-1] * 4), 2.0)
    assert got.ravel().tolist() == [20, 0, 40, 0]
    with_adapter_only(theirs)(rows, weights, got, np.array([1] * 4), scale=1.0)
    assert got.ravel().tolist() == [40, 20, 60, 20]


def test_what_vllm_makes_of_weights_drafts_and_adapters_is_told() -> None:
    def config(quantization: str | None, ahead: Any, lora: Any) -> SimpleNamespace:
        model = SimpleNamespace(
            dtype="torch.bfloat16", max_model_len=64, max_logprobs=20, quantization=quantization
        )
        scheduler = SimpleNamespace(max_num_seqs=4, max_num_batched_tokens=2048)
        return SimpleNamespace(
            model_config=model, scheduler_config=scheduler, speculative_config=ahead, lora_config=lora
        )

    def row_of(made: Made) -> dict[str, Any]:
        fields = {key: value for key, value in asdict(made).items() if key != "platform"}
        return asdict(replace(FakeEngine().info, **fields))

    ngram = SimpleNamespace(method="ngram", num_speculative_tokens=3)
    all_of_it = made_of(config("awq", ngram, SimpleNamespace(max_loras=2, max_lora_rank=16)))
    told = (all_of_it.quantization, all_of_it.speculation, all_of_it.max_loras, all_of_it.max_lora_rank)
    assert told == ("awq", "ngram 3", 2, 16)
    (knobs,) = engines.engine_knobs([row_of(all_of_it)])
    assert {name: knobs[name] for name in ("dtype", "quantization", "speculation", "max_loras")} == {
        "dtype": "bfloat16",
        "quantization": "awq",
        "speculation": "ngram 3",
        "max_loras": 2,
    }
    nothing = made_of(config(None, None, None))
    (knobs,) = engines.engine_knobs([row_of(nothing)])
    assert not {"quantization", "speculation", "max_loras"} & {*knobs}


def test_an_engine_takes_adapters_where_its_model_has_some(options_of: Any, tmp_path: Path) -> None:
    given = options_of("rvc", "--model", "m=tiny", "--model", "n=tiny", "--lora-dir", f"m={tmp_path}")
    assert given.lora == LoraOptions(str(tmp_path), "m")
    made = {
        (model, share): dict(engine_arguments(given, path="/m", model=model, gpu_share=share))
        for model in "mn"
        for share in (0.0, 1.0)
    }
    assert [("enable-lora" in one, "worker-extension-cls" in one) for one in made.values()] == [
        (True, True),
        (True, False),
        (False, False),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rvc", "--model", "m=tiny", "--lora-dir", "/nowhere"), "--lora-dir /nowhere: no such folder"),
        (("rvc", "--model", "m=tiny", "--model", "n=tiny", "--lora-dir", "."), "say whose adapters .*m=."),
        (("rvc", "--model", "m=tiny", "--lora-dir", "s3://bucket"), "only rsv loads from there"),
        (("rac", "--model", "m=tiny", "--lora-dir", "."), "topology rac serves no adapters"),
        (("vllm", "--model", "m=tiny", "--lora-dir", "."), "topology vllm serves no adapters"),
    ],
)
def test_folders_that_can_not_be_are_refused(options_of: Any, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        options_of(*words)


def test_remote_folders_are_ray_s() -> None:
    args: Any = type("Args", (), {"lora_dir": "s3://bucket/x/", "topology": "rsv"})
    made = from_args(args, [ModelSpec("m", "tiny")])
    assert (made.path, made.is_remote, made.folder_of("m")) == ("s3://bucket/x", True, None)


@pytest.fixture
def options_of() -> Any:
    from backends.cli import parse_options

    def parsed(*words: str) -> Any:
        options = parse_options(words)[0]
        options.listener.close()
        return options

    return parsed
