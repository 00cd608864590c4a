"""What clients send comes back in errors and stands in logs: visible, and never raw."""

from __future__ import annotations

import io
import logging

import orjson
import pytest

from backends.api.http_asgi import AsgiApp
from backends.errors import ApiError, unknown_model
from backends.errors.text import LINE, VisibleFormatter, make_logs_visible, visible

EVIL = "evil\x1b[2J\x1b]0;t\x07\x9b31m\u202e\u2066\u200b\ufeff\u2028\x7f\ud800\U000e0041\r\nERROR forged"
SHOWN = r"evil\x1b[2J\x1b]0;t\x07\x9b31m\u202e\u2066\u200b\ufeff\u2028\x7f\ud800\U000e0041\r\nERROR forged"


def test_unsafe_characters_are_escapes_and_all_others_stay() -> None:
    assert visible(EVIL) == SHOWN
    for text in ("", "plain", "휴가는 며칠입니까? ünï", "a\\x1b"):
        assert visible(text) == text
    assert visible("abcdef", 3) == "abc…"
    assert visible("abc", 3) == "abc"
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_an_error_quotes_a_clients_text_visibly_and_not_at_length() -> None:
    assert unknown_model(EVIL).body()["error"]["message"] == f"The model `{SHOWN}` does not exist."
    assert len(ApiError(404, "x" * 10**6).message) < 3000


async def test_a_path_comes_back_visibly() -> None:
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": f"/{EVIL}", "headers": []}
    await AsgiApp(None)(scope, receive, send)  # type: ignore[arg-type]
    body = sent[-1]["body"]
    assert isinstance(body, bytes)
    assert orjson.loads(body)["error"]["message"] == f"Not Found: GET /{SHOWN}"


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(VisibleFormatter(LINE))
    logger = logging.Logger("backends.test")
    logger.addHandler(handler)
    return logger, text


def test_a_log_line_stays_one_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = log
    logger.warning("%s failed", EVIL)
    assert text.getvalue().endswith(f" WARNING backends.test: {SHOWN} failed\n")
    assert text.getvalue().count("\n") == 1


def test_a_traceback_keeps_its_lines_and_hides_nothing(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = log
    try:
        raise ValueError(EVIL)
    except ValueError:
        logger.exception("failed")
    lines = text.getvalue().splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-2].endswith(r"\U000e0041\r")  # the traceback has lines; what begins one is marked by \r
    assert "\x1b" not in text.getvalue()
    assert "\u202e" not in text.getvalue()


def test_what_a_ray_worker_logs_is_visible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = logging.lastResort
    assert last is not None
    before = last.formatter
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    make_logs_visible()
    try:
        logging.getLogger("backends.hf").error("prompt %s", EVIL)
    finally:
        last.setFormatter(before)
    assert capsys.readouterr().err == f"ERROR backends.hf: prompt {SHOWN}\n"
