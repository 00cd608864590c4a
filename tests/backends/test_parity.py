"""The same model says the same, whatever serves it: 20 RAG prompts, 64 tokens each, greedy, float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.backends.backend_process import BackendProcess
from tests.backends.parity import COUNT, TIE, Sequence, asked, differences
from tests.backends.reference import Reference

# The first may have to wait for what all of them need, which is made once: the local model, its reference.
pytestmark = pytest.mark.timeout(900)


async def test_parity(
    client: httpx.AsyncClient,
    backend: BackendProcess,
    reference: Reference,
    reference_model: Callable[[], Any],
) -> None:
    got = await asked(client, at_once=1)
    ties = differences(reference_model, reference.parity, got)
    topology = backend.wait_for("ready")["topology"]
    print(f"{topology}: {COUNT - len(ties)} of {COUNT} answers identical", *ties, sep="\n  tie: ")
    if topology not in ("rvc", "rsv"):  # the same code on the same weights
        assert ties == []


def test_a_difference_that_is_no_tie_is_told(
    reference: Reference, reference_model: Callable[[], Any]
) -> None:
    import torch

    first, *rest = reference.parity
    with torch.no_grad():
        logits = reference_model()[0](torch.tensor([first.prompt])).logits[0, -1]
    assert int(logits.argmax()) == first.answer[0]
    worst = int(logits.argmin())
    wrong = Sequence(first.prompt, (worst, *first.answer[1:]))
    with pytest.raises(AssertionError, match="no tie: prompt 0, token 0"):
        differences(reference_model, reference.parity, [wrong, *rest])
    second = int(logits.topk(2).indices[1])
    gap = float(logits[first.answer[0]] - logits[second])
    assert gap > TIE
