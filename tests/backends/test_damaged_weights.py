"""An engine dies, or one more is to start for the load, while the weights are damaged: the file is named
within seconds, other engines serve on, and it comes (back) once the file is mended."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from rvtop.contract.command import SetRate
from tests.backends.backend_process import BackendProcess
from tests.backends.under_load import facts, loaded, until_ready

WEIGHTS = "model.safetensors"
#: vLLM's start on a busy machine, and the pauses between tries.
BACK_LIMIT_S = 240.0
#: Until the load has been high for as long as the policy looks back, and a replica has been started.
SCALED_LIMIT_S = 90.0


@pytest.mark.parametrize(
    ("topology", "words"),
    [("rsc", ()), ("rac", ()), ("rvc", ("--dtype", "float32", "--engine-arg", "max-num-seqs=8"))],
)
@pytest.mark.parametrize("damage", ["truncated", "missing"])
async def test_the_file_is_named_and_others_serve_on(
    topology: str, words: tuple[str, ...], damage: str, tiny_model: Path, tmp_path: Path
) -> None:
    if damage == "missing" and topology != "rac":
        pytest.skip("the same code as a truncated file; one topology is enough")
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    whole = (model / WEIGHTS).read_bytes()
    backend = BackendProcess(
        *(topology, "--lease", "--model", f"tiny={model}", "--threads", "1", "--num-replicas", "2"),
        *words,
        log=tmp_path / "backend.log",
    )
    try:
        url = await asyncio.to_thread(lambda: backend.url)
        rows = {row["engine"]: row for row in (await facts(url))["engines"]}
        victim, other = sorted(rows)
        async with loaded(url, tmp_path / "run", rate=5, seconds=600) as load:
            if damage == "missing":
                (model / "model.safetensors.index.json").write_text(
                    '{"weight_map": {"w": "model-2.safetensors"}}'
                )
                text = f"{model}/model-2.safetensors: missing"
            else:
                (model / WEIGHTS).write_bytes(whole[: len(whole) // 2])
                text = f"{model / WEIGHTS}: cut short: it has {len(whole) // 2} bytes of {len(whole)}"
            os.kill(rows[victim]["pid"], signal.SIGKILL)
            said_s = await load.said(text)
            ok = load.session.snapshot().load.ok
            while load.session.snapshot().load.ok < ok + 20:  # the other one serves on
                await asyncio.sleep(0.1)
            states = {row["engine"]: row["state"] for row in (await facts(url))["engines"]}
            assert states[other] == "ready"
            (model / WEIGHTS).write_bytes(whole)
            (model / "model.safetensors.index.json").unlink(missing_ok=True)
            back_s = await until_ready(url, 2, BACK_LIMIT_S)
            load.end()
        print(f"{topology}, weights {damage}: said after {said_s:.1f} s, back {back_s:.0f} s after the mend,")
        print(f"  {load.summary['requests']}")
        in_flight = rows[victim].get("concurrency") or 1
        assert load.errors.total() <= in_flight + 5  # what the victim held, and what came while it died
    finally:
        backend.kill()


@pytest.mark.parametrize(
    ("topology", "words"), [("rsc", ()), ("rvc", ("--dtype", "float32", "--engine-arg", "max-num-seqs=8"))]
)
async def test_what_keeps_the_load_from_one_more_replica_is_named(
    topology: str, words: tuple[str, ...], tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    whole = (model / WEIGHTS).read_bytes()
    scale = "min=1,max=2,target_ongoing_requests=1,upscale_delay_s=1"
    backend = BackendProcess(
        *(topology, "--lease", "--model", f"tiny={model}", "--threads", "1", "--autoscale", scale, *words),
        log=tmp_path / "backend.log",
    )
    try:
        url = await asyncio.to_thread(lambda: backend.url)
        async with loaded(url, tmp_path / "run", rate=1, seconds=600, tokens=64) as load:
            (model / WEIGHTS).write_bytes(whole[: len(whole) // 2])
            load.session.command(SetRate(20))
            said_s = await load.said(f"{model / WEIGHTS}: cut short", SCALED_LIMIT_S)
            ok = load.session.snapshot().load.ok
            while load.session.snapshot().load.ok < ok + 20:  # the first one serves on
                await asyncio.sleep(0.1)
            (model / WEIGHTS).write_bytes(whole)
            back_s = await until_ready(url, 2, BACK_LIMIT_S)
            load.session.command(SetRate(1))
            load.end()
        print(
            f"{topology}: said {said_s:.1f} s after the load grew, two there {back_s:.0f} s after the mend,"
        )
        print(f"  {load.summary['requests']}")
        assert load.errors.total() == 0
    finally:
        backend.kill()
