"""Endpoints of real servers: what vLLM says of a response and of a message is read as it is meant,
and the embedder of a topology of ours answers a load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rvtop.session.request import SessionRequest
from rvtop.target.probe import TargetError, probe
from rvtop.target.served import check_served
from tests.backends.conftest import Launch
from tests.faults.sessions import Watched, request

pytestmark = pytest.mark.slow
TOKENS = 12
WORKLOAD = {"kind": "synthetic", "prompt_tokens": 20, "output_tokens": TOKENS, "count": 8}
ROUND = {"name": "all", "rounds": {"sizes": [4]}}


async def ran(asked: SessionRequest) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of the requests, which all ended well, and the summary."""
    watched = Watched(asked)
    outcome = await watched.end()
    assert outcome.summary is not None, outcome.message
    rows = watched.rows()
    assert [(row["error"], row["error_text"]) for row in rows] == [(None, None)] * 4
    return rows, outcome.summary


async def test_responses_and_messages_of_vllm(launch: Launch, tiny_model: Path, tmp_path: Path) -> None:
    backend = launch("vllm", "--model", f"a={tiny_model}", "--threads", "1")
    url = backend.wait_for("ready", 400.0)["url"]
    prompts = set()
    for name in ("chat", "responses", "messages"):
        for stream in (True, False):
            out = tmp_path / f"{name}-{stream}"
            rows, summary = await ran(
                request(url, out, ROUND, workload=WORKLOAD, endpoint=name, stream=stream)
            )
            prompts.add(tuple(sorted((row["prompt"], row["prompt_tokens"]) for row in rows)))
            for row in rows:
                # ``ignore_eos`` is no field of messages: an answer may be shorter there.
                assert 0 < row["output_tokens"] <= TOKENS
                assert name == "messages" or row["output_tokens"] == TOKENS
                assert (row["first_token_ns"] is None) == (not stream)
                assert not stream or 0 < row["chunks"] <= row["output_tokens"]
            assert summary["ttft_ms"]["count"] == (4 if stream else 0)
            assert summary["tokens"]["source"] == "usage"
    assert len(prompts) == 1, prompts  # the same prompts have as many tokens by each endpoint's rule
    info = await probe(url)
    with pytest.raises(TargetError, match="does not serve endpoint rerank for model a"):
        await check_served(info, request(url, tmp_path, ROUND, endpoint="rerank").scenario.api, ("a",))  # type: ignore[union-attr]


async def test_embeddings_of_our_own(launch: Launch, tiny_model: Path, tmp_path: Path) -> None:
    backend = launch("baseline", "--model", f"a={tiny_model}", "--threads", "1", "--index", "sample")
    url = backend.wait_for("ready", 400.0)["url"]
    asked = request(url, tmp_path / "run", ROUND, workload=WORKLOAD, endpoint="embeddings", batch=2)
    watched = Watched(asked)
    refused = await watched.end()
    assert refused.exit_code == 2
    assert "the embedder of this server is `tiny`" in refused.message
    named = request(
        url, tmp_path / "named", ROUND, workload=WORKLOAD, endpoint="embeddings", batch=2, models=("tiny",)
    )
    rows, summary = await ran(named)
    assert all(row["prompt_tokens"] > 20 and row["output_tokens"] is None for row in rows)
    assert (summary["ttft_ms"]["count"], summary["e2e_ms"]["count"]) == (0, 4)
