"""Closed loops, conversations and cancellations, as a worker carries them."""

from __future__ import annotations

import numpy as np
import pytest

from rvtop.errors import UserError
from rvtop.load.fleet.autoscale import Autoscale
from rvtop.load.fleet.workers import Workers, parse_workers
from rvtop.load.plan.followups import Cancels, Slots, Talk, chosen
from rvtop.load.plan.prompts import Turn
from rvtop.load.plan.schedule import NEVER
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import answer_text

USER = {"role": "user", "content": "and then?"}


def test_slots_are_free_taken_and_free_again() -> None:
    slots = Slots()
    slots.resize(2, 100)
    assert (slots.next_ns, slots.take(), slots.take(), slots.next_ns) == (100, 100, 100, NEVER)
    slots.free(300)
    slots.free(200)
    assert (slots.take(), slots.take()) == (200, 300)
    assert slots.number == 4


def test_a_limit_ends_the_loop() -> None:
    slots = Slots(left=3)
    slots.resize(2, 0)
    for _ in range(3):
        slots.take()
        slots.free(1)
    assert slots.next_ns == NEVER


def test_a_smaller_share_lets_slots_go_as_they_end() -> None:
    slots = Slots()
    slots.resize(4, 0)
    for _ in range(3):
        slots.take()
    slots.resize(1, 5)  # one was free, two are still in use
    assert slots.next_ns == NEVER
    for _ in range(3):
        slots.free(9)
    assert slots.take() == 9
    assert slots.next_ns == NEVER


def test_a_pause_is_not_caught_up() -> None:
    slots = Slots()
    slots.resize(3, 10)
    slots.wait_until(50)
    assert [slots.take() for _ in range(3)] == [50, 50, 50]


def talk(*turns: Turn) -> Talk:
    return Talk(0, 0, 0, 0, turns, [{"role": "user", "content": "hi"}])


def test_the_models_own_answer_goes_before_the_next_question() -> None:
    one = talk(Turn((USER,), {}, 0.5))
    turn = one.next("hello")
    assert turn is not None
    assert turn.delay_s == 0.5
    assert one.messages[1:] == [{"role": "assistant", "content": "hello"}, USER]
    assert one.next("bye") is None


def test_a_recorded_answer_takes_its_place() -> None:
    recorded = {"role": "assistant", "content": "as it was"}
    one = talk(Turn((recorded, USER), {}))
    one.next("something else")
    assert one.messages[1:] == [recorded, USER]


def test_the_answer_is_the_text_of_the_stream_however_it_was_split() -> None:
    body = (
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\xed\x95\x9c"}}]}\r\n\r\n: ping\n\n'
        b'data: {"choices":[{"delta":{"content":" two"},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    )
    for size in (1, 7, len(body)):
        assert answer_text(body[i : i + size] for i in range(0, len(body), size)) == "한 two"
    assert answer_text([b"\xff\xfe nonsense"]) == ""


def record(seq: int, sent_ns: int) -> Record:
    made = Record(seq, 0, 0, 0, sent_ns)
    made.sent_ns = sent_ns
    return made


def test_the_share_that_is_given_up_is_in_the_seed() -> None:
    draws = np.array([chosen(7, number) for number in range(20_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    # Chi-square of 20 equal bins: 19 degrees of freedom, 43.8 is passed once in a thousand seeds.
    counts = np.histogram(draws, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8
    assert [chosen(7, number) for number in range(50)] != [chosen(8, number) for number in range(50)]


def test_requests_are_given_up_in_the_order_of_their_times() -> None:
    cancels = Cancels(1)
    cancels.add(record(1, 1000), 1.0, 500)
    cancels.add(record(2, 1100), 1.0, 100)  # of a phase that gives up sooner
    assert cancels.next_ns == 1200
    assert [one.seq for one in cancels.take(1300)] == [2]
    assert [one.seq for one in cancels.take(1500)] == [1]
    assert cancels.next_ns == NEVER
    cancels.add(record(3, 0), 0.0, 1)
    assert cancels.next_ns == NEVER


def test_a_worker_is_added_when_one_is_busy_for_a_while_and_cores_are_left() -> None:
    scale = Autoscale(most=2)
    assert scale.look(1, 0.8, 0.1) is None  # one busy second is none
    assert "80 % of a core" in (scale.look(1, 0.8, 0.1) or "")
    assert [scale.look(2, 0.9, 0.1) for _ in range(10)] == [None] * 10  # no core is left


def test_a_late_loop_asks_for_one_only_where_the_worker_is_busy_itself() -> None:
    idle, busy = Autoscale(most=8), Autoscale(most=8)
    assert [idle.look(1, 0.1, 50.0) for _ in range(5)] == [None] * 5
    assert "50.0 ms late" in next(filter(None, (busy.look(1, 0.4, 50.0) for _ in range(5))))


def test_a_new_worker_is_given_time_before_it_is_judged() -> None:
    scale = Autoscale(most=8)
    said = [scale.look(1, 0.9, 1.0) for _ in range(7)]
    assert [text is not None for text in said] == [False, True, False, False, False, False, True]
    assert scale.look(1, None, None) is None


def test_what_workers_may_be() -> None:
    assert parse_workers("3") == Workers(3)
    assert parse_workers("auto") == Workers(1, auto=True)
    assert parse_workers("ray:8") == Workers(8, ray=True)
    for workers in (Workers(3), Workers(1, auto=True), Workers(8, ray=True)):
        assert parse_workers(str(workers)) == workers


@pytest.mark.parametrize("text", ["0", "-1", "ray:", "ray:0", "two", "", "5000", "1.5"])
def test_workers_that_can_not_be_meant(text: str) -> None:
    with pytest.raises(UserError, match="must be a number from 1 to 4096, auto, or ray:N"):
        parse_workers(text)
