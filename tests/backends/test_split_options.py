"""Flags of names for several models, their shares, and who chooses where no router does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from backends.api.splits import ARM_HEADER, Chooser, Sessions, Splits, refuse_unrouted
from backends.cli import parse_options
from backends.errors import ApiError, UsageError
from backends.settings.split import Arm, Split, SplitOptions, point_of

CANARY = Split("chat", (Arm("v1", 90.0), Arm("v2", 10.0)))
MODELS = ("baseline", "--model", "v1=tiny", "--model", "v2=tiny")


def parsed(*flags: str, models: tuple[str, ...] = MODELS) -> SplitOptions:
    options, _, _ = parse_options([*models, *flags])
    options.listener.close()
    return options.split


def test_shares_are_of_their_sum() -> None:
    options = parsed("--split", "chat=v1:3,v2:1", "--split", "beta=v2:1,v1:0", "--fallback")
    assert options.splits[0] == Split("chat", (Arm("v1", 75.0), Arm("v2", 25.0)))
    assert (options.fallback, options.session_header) == (True, "x-session-id")
    assert options.aliases_of("v2") == ("chat", "beta")
    assert parsed().splits == ()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--split", "chat"), "write ALIAS=MODEL:SHARE"),
        (("--split", "v1=v1:1,v2:1"), "a model's own name"),
        (("--split", "chat=v1:1,v3:1"), "no --model is named 'v3'"),
        (("--split", "chat=v1:1,v1:1"), "named twice"),
        (("--split", "chat=v1:1"), "two arms or more"),
        (("--split", "chat=v1:0,v2:0"), "a share above 0"),
        (("--split", "chat=v1:x,v2:1"), "a share of 0 or more"),
        (("--split", "chat=v1:-1,v2:1"), "a share of 0 or more"),
        (("--split", "chat=v1:1,v2:1", "--split", "chat=v1:1,v2:2"), "split twice"),
        (("--fallback",), "needs --split"),
        (("--split", "c=v1:1,v2:1", "--session-header", "a b"), "letters, digits"),
        (("--model-size", "7b=v9"), "no --model is named 'v9'"),
        (("--model-size", "7b"), "write SIZE=MODEL"),
    ],
)
def test_what_can_not_be_is_refused(flags: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        parsed(*flags)


def test_sizes_stand_in_names() -> None:
    def sizes(*names: str, flags: tuple[str, ...] = ()) -> dict[str, str]:
        models = [word for name in names for word in ("--model", f"{name}=tiny")]
        return dict(parsed(*flags, models=("baseline", *models)).sizes)

    assert sizes("qwen25_1_5b_instruct", "Qwen2.5-3B", "Llama-3-70B-Instruct") == {
        "1.5b": "qwen25_1_5b_instruct",
        "3b": "Qwen2.5-3B",
        "70b": "Llama-3-70B-Instruct",
    }
    assert sizes("a-7b", "b-7b", "c-b7bx") == {}  # not of one alone; none
    assert sizes("a-7b", "b", flags=("--model-size", "70B=b")) == {"7b": "a-7b", "70b": "b"}


def test_an_arm_that_grows_keeps_what_it_had() -> None:
    three = Split("chat", (Arm("v1", 50.0), Arm("v2", 30.0), Arm("v3", 20.0)))
    for name in ("v1", "v2", "v3"):
        own = next(arm.share for arm in three.arms if arm.model == name)
        before = next((low, high) for model, low, high in three.ranges() if model == name)
        after = three.changed({name: own + 20.0})
        now = next((low, high) for model, low, high in after.ranges() if model == name)
        assert now[1] - now[0] == 100 * (own + 20)
        assert now[0] <= before[0] < before[1] <= now[1]
    assert [arm.share for arm in three.changed({"v2": 65.0}).arms] == pytest.approx([25, 65, 10])
    assert [arm.share for arm in CANARY.changed({"v2": 100.0}).changed({"v2": 40.0}).arms] == [60, 40]


def chooser(*, fallback: bool = False, down: tuple[str, ...] = ()) -> tuple[Splits, Chooser]:
    options = SplitOptions((CANARY,), fallback=fallback, sizes=(("70b", "v2"),))
    splits = Splits(options, lambda model: model not in down)
    return splits, Chooser(splits, lambda model: model not in down)


def model_of(body: bytes) -> Any:
    return json.loads(body).get("model")


def test_what_the_router_does_is_done_in_process() -> None:
    splits, choose = chooser()
    body = json.dumps({"model": "chat", "prompt": "x"}).encode()
    counts = Counter[str]()
    for number in range(2000):
        made, header = choose.choose(body, {"x-request-id": f"r-{number}"})
        assert header == {ARM_HEADER: model_of(made)}
        assert model_of(made) == ("v2" if point_of(f"r-{number}".encode()) < 1000 else "v1")
        counts[model_of(made)] += 1
    assert 148 <= counts["v2"] <= 252
    sessions = [{"x-session-id": f"s-{number}"} for number in range(200)]
    before = [model_of(choose.choose(body, session)[0]) for session in sessions]
    asyncio.run(splits.change(b'{"shares": {"v2": 50}}'))
    assert [model_of(choose.choose(body, session)[0]) for session in sessions] == before
    asyncio.run(splits.change(b'{"alias": "chat", "shares": {"v2": 0}}'))
    assert {model_of(choose.choose(body, session)[0]) for session in sessions} == {"v1"}


def test_names_that_are_no_alias_stay() -> None:
    _, choose = chooser()
    for text in (b'{"model": "v1"}', b"{oops", b"[]", b'{"model": 5}', b"{}"):
        assert choose.choose(text, {}) == (text, {})
    assert model_of(choose.choose(b'{"model_size": "70B"}', {})[0]) == "v2"
    with pytest.raises(ApiError, match="13b"):
        choose.choose(b'{"model_size": "13b"}', {})


def test_an_arm_that_is_down() -> None:
    body = b'{"model": "chat"}'
    _, choose = chooser(down=("v2",))
    assert {choose.choose(body, {})[1][ARM_HEADER] for _ in range(300)} == {"v1", "v2"}
    _, choose = chooser(fallback=True, down=("v2",))
    assert {choose.choose(body, {})[1][ARM_HEADER] for _ in range(300)} == {"v1"}


def test_a_change_that_can_not_be_says_why() -> None:
    splits, _ = chooser()
    for body, status in (
        (b'{"shares": {"v3": 1}}', 400),
        (b'{"shares": {"v2": 101}}', 400),
        (b'{"shares": {"v1": 60, "v2": 60}}', 400),
        (b'{"shares": {"v1": 20, "v2": 20}}', 400),
        (b'{"shares": {"v2": true}}', 400),
        (b"{}", 400),
        (b'{"alias": "nope", "shares": {"v2": 1}}', 404),
    ):
        with pytest.raises(ApiError) as refused:
            asyncio.run(splits.change(body))
        assert refused.value.status == status
    assert splits.told()[0]["arms"][1] == {"arm": "v2", "share": 10.0, "up": True}


def test_what_no_engine_gets_is_told_apart() -> None:
    options = SplitOptions((CANARY,), sizes=(("70b", "v2"),))
    for body, status in (
        (b'{"model": "nope"}', 404),
        (b'{"model_size": "13b"}', 404),
        (b'{"model": "chat"}', 503),
        (b'{"model_size": "70b"}', 503),
    ):
        with pytest.raises(ApiError) as refused:
            refuse_unrouted(body, ["v1", "v2"], options)
        assert refused.value.status == status


def test_sessions_are_forgotten_the_oldest_first() -> None:
    sessions = Sessions(most=2, for_s=1000)
    for name in (b"a", b"b", b"a", b"c"):
        sessions.put(name, "v1")
    assert (sessions.get(b"a"), sessions.get(b"b"), sessions.get(b"c")) == ("v1", None, "v1")
    assert Sessions(for_s=-1).get(b"a") is None


def test_names_of_a_split_stand_for_its_arms() -> None:
    options, _, _ = parse_options([*MODELS, "--model", "other=tiny", "--split", "chat=v1:1,v2:1"])
    options.listener.close()
    assert options.names == ["chat", "other"]
