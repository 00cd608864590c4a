"""What makes a request good, also where its answer came in one piece."""

from __future__ import annotations

import numpy as np

from rvtop.stats.slo import NO_TTFT, good, meets

E2E = np.array([90, 110, 90, 110])
TOKENS = np.array([8, 8, 0, 0])


def test_an_answer_in_one_piece_is_judged_by_its_latency_alone() -> None:
    limits = {"ttft": 10.0, "tpot": 1.0, "e2e": 100.0}
    for none in (NO_TTFT, np.nan):
        ttft = np.full(4, none)
        assert meets(ttft, E2E, TOKENS, limits).tolist() == [True, False, True, False]
        assert good([(0, limits)], E2E, ttft, E2E, TOKENS).tolist() == [True, False, True, False]
    assert not meets(np.full(4, 11), E2E, TOKENS, limits).any()
    assert not good([(0, {})], E2E, np.full(4, NO_TTFT), E2E, TOKENS).any()
