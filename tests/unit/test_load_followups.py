"""Closed loops, conversations and cancellations, as a worker carries them."""

from __future__ import annotations

import numpy as np
import pytest

from rvtop.errors import UserError
from rvtop.load.fleet.autoscale import Autoscale
from rvtop.load.fleet.workers import Workers, parse_workers
from rvtop.load.plan.followups import Cancels, Slots, chosen
from rvtop.load.plan.schedule import NEVER
from rvtop.load.plan.steps import Steps, Talk, Turn
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
    return Talk(0, 0, 0, 0, Steps(turns), [{"role": "user", "content": "hi"}])


def test_the_models_own_answer_goes_before_the_next_question() -> None:
    one = talk(Turn((USER,), {}, 0.5))
    assert one.steps.keeps == (True, False)
    assert one.ended(0, "hello") == [1]
    assert list(one.messages(1))[1:] == [{"role": "assistant", "content": "hello"}, USER]
    assert (one.ended(1, "bye"), one.open) == ([], 0)


def test_a_recorded_answer_takes_its_place() -> None:
    recorded = {"role": "assistant", "content": "as it was"}
    one = talk(Turn((recorded, USER), {}))
    assert one.steps.keeps == (False, False)
    one.ended(0, "something else")
    assert list(one.messages(1))[1:] == [recorded, USER]


def test_branches_go_on_from_the_fork_and_are_joined() -> None:
    def asks(text: str, *after: int, **more: bool) -> Turn:
        return Turn(({"role": "user", "content": text},), {}, 0.0, after, **more)

    def said(step: int) -> str:
        return " ".join(f"{m['role'][0]}:{m['content']}" for m in one.messages(step))

    # 0 forks into 1 and 2; 3 goes on from 2; 4 joins 1 and 3; 5 stands alone behind it.
    turns = (asks("b1", 0), asks("b2", 0), asks("on", 2), asks("join", 1, 3), asks("new", 4, whole=True))
    one = Talk(0, 0, 0, 0, Steps(turns, task=True), [{"role": "user", "content": "hi"}])
    assert one.steps.base == (0, 0, 0, 2, 0, 4)
    assert one.steps.facts is not None
    assert [fact["branch"] for fact in one.steps.facts] == ["", "1", "2", "2", "", ""]
    assert one.ended(0, "A0") == [1, 2]
    assert said(1) == "u:hi a:A0 u:b1"
    assert said(2) == "u:hi a:A0 u:b2"
    assert (one.ended(2, "A2"), one.open) == ([3], 2)
    assert said(3) == "u:hi a:A0 u:b2 a:A2 u:on"
    assert one.ended(3, "A3") == []  # 1 is still on its way
    assert (one.ended(1, "A1"), one.open) == ([4], 1)
    assert said(4) == "u:hi a:A0 u:A1 u:A3 u:join"
    assert (one.ended(4, "A4"), said(5), one.ended(5, ""), one.open) == ([5], "u:new", [], 0)
    assert not one._said


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
