"""How a run ended: which kind is told where several hold, with which exit code and in which words."""

from __future__ import annotations

from itertools import combinations

import pytest

from rvtop.results.ending import EXIT_CODES, Cause, End, cut_off, end_of, exit_code, weighed

DIED = Cause("client_failed", "load worker 0 died (killed by SIGKILL); 3 requests in flight lost")
LOST = Cause("target_lost", "http://x: the target is lost")
STOPPED = Cause("interrupted", "interrupted")
FULL = Cause("saturated", "stopped: over saturation since 8 s")


@pytest.mark.parametrize(
    ("causes", "kind", "text"),
    [
        ([], "done", ""),
        ([STOPPED], "interrupted", STOPPED.text),
        ([LOST], "target_lost", LOST.text),
        ([DIED], "client_failed", DIED.text),
        ([STOPPED, LOST], "target_lost", f"{LOST.text}; {STOPPED.text}"),
        ([LOST, STOPPED, DIED], "client_failed", f"{DIED.text}; {LOST.text}; {STOPPED.text}"),
        ([DIED, DIED], "client_failed", DIED.text),
        ([FULL, STOPPED], "interrupted", f"{STOPPED.text}; {FULL.text}"),
        (
            [Cause("client_failed", f"load worker {n} died") for n in range(9)],
            "client_failed",
            "load worker 0 died; load worker 1 died; load worker 2 died; and 6 more",
        ),
    ],
)
def test_what_bends_the_figures_most_names_the_end(causes: list[Cause], kind: str, text: str) -> None:
    end = end_of(causes, 5, {"a": 2, "b": 0})
    assert (end.kind, end.in_flight, end.text, end.by_model) == (kind, 5, text, {"a": 2})


def test_the_order_of_causes_does_not_matter() -> None:
    for one, other in combinations((DIED, LOST, STOPPED), 2):
        assert end_of([one, other], 0, {}) == end_of([other, one], 0, {})


@pytest.mark.parametrize(
    ("kind", "code", "code_if_missed"),
    [
        ("done", 0, 1),
        ("all_failed", 1, 1),
        ("target_lost", 3, 3),
        ("client_failed", 5, 5),
        ("cut_off", 5, 5),
        ("interrupted", 130, 130),
        ("saturated", 1, 1),
    ],
)
def test_every_kind_has_its_exit_code(kind: str, code: int, code_if_missed: int) -> None:
    assert (exit_code(kind, []), exit_code(kind, ["ttft_p99_ms: missed"])) == (code, code_if_missed)


def test_no_kind_is_without_a_test() -> None:
    kinds = {"done", "cut_off", "interrupted", "target_lost", "all_failed", "client_failed", "saturated"}
    assert set(EXIT_CODES) == kinds


@pytest.mark.parametrize(
    ("end", "ok", "errors", "kind"),
    [
        (End(), 0, {"http_500": 3}, "all_failed"),
        (End(), 0, {"http_500": 3, "cancelled": 9}, "all_failed"),
        (End(), 1, {"http_500": 3}, "done"),
        (End(), 0, {}, "done"),
        (End(), 0, {"http_500": 0}, "done"),
        (End(), 0, {"cancelled": 3}, "done"),  # somebody wanted it so
        (End("interrupted", 0, "interrupted"), 0, {"http_500": 3}, "interrupted"),
        (End("target_lost", 0, "lost"), 0, {"refused": 3}, "target_lost"),
        (End("client_failed", 0, "died"), 0, {"worker_lost": 3}, "client_failed"),
        (cut_off(3, {}), 0, {"unfinished": 3}, "cut_off"),
    ],
)
def test_a_run_that_is_done_without_one_good_answer_has_failed(
    end: End, ok: int, errors: dict[str, int], kind: str
) -> None:
    weighed_end = weighed(end, ok, errors, {})
    assert weighed_end.kind == kind
    assert kind == "all_failed" or weighed_end == end


def test_all_failed_says_the_most_frequent_words_of_the_most_frequent_class_and_is_safe_to_show() -> None:
    errors = {"http_500": 7, "reset": 5, "cancelled": 20}
    words = {
        ("http_500", "CUDA\x1b[2J error"): 4,
        ("http_500", "the queue"): 3,
        ("reset", "reset by peer"): 5,
        ("cancelled", "given up"): 20,
    }
    end = weighed(End(), 0, errors, words)
    assert end.text == "every request failed (7 of 12: http_500: CUDA\\x1b[2J error)"
    assert weighed(End(), 0, {"empty": 1}, {}).text == "every request failed (1 of 1: empty)"


def test_what_was_in_flight_at_a_cut_is_counted() -> None:
    assert cut_off(44, {"a": 44}).text.startswith("cut off, 44 requests in flight: ")
    assert cut_off(1, {}).text.startswith("cut off, 1 request in flight: ")
