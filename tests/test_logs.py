"""No secret reaches the log, whatever its shape; no text of somebody else's breaks a line of it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
import structlog

from idsync import logs
from idsync.clock import new_secret

KEY = "sk-Abc123_def-456XYZ"
TOKEN = f"idsync_{new_secret()}"
JWT = "eyJhbGciOi.eyJzdWIiOiIx.c2ln-_A"
Write = Callable[..., str]


@pytest.fixture(params=["json", "text"])
def written(request: pytest.FixtureRequest) -> Iterator[Write]:
    """Log one event in either style and return what came out."""

    def write(event: str, *, crash: str | None = None, **fields: Any) -> str:
        out = io.StringIO()
        with redirect_stderr(out):
            logs.configure("debug", request.param)
            log = structlog.get_logger("test")
            if crash is None:
                log.warning(event, **fields)
            else:
                _crash(log, event, crash)
        return out.getvalue()

    yield write
    structlog.reset_defaults()


def _crash(log: Any, event: str, message: str) -> None:
    try:
        raise RuntimeError(message)
    except RuntimeError:
        log.exception(event)


SHAPES = {
    "a virtual key": (f"deleted {KEY} now", KEY),
    "a quoted key": (f'{{"key":"{KEY}"}}', KEY),
    "a key in a query": (f"GET /key/info?key={KEY}&x=1", KEY),
    "a key in a path": (f"GET /key/{KEY}/info", KEY),
    "one of our tokens": (f"made {TOKEN}.", TOKEN),
    "a header": (f"Authorization: Bearer {JWT}", JWT),
    "a header in small letters": (f"authorization: bearer {JWT}", JWT),
    "a header with our token": (f"Bearer {TOKEN}", TOKEN),
    "two keys": (f"{KEY},{KEY}", KEY),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_comes_through_a_text(shape: str) -> None:
    text, secret = SHAPES[shape]
    assert secret not in logs.mask(text)
    assert "***" in logs.mask(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_comes_through_an_event_a_field_or_a_traceback(written: Write, shape: str) -> None:
    text, secret = SHAPES[shape]
    assert secret not in written(text)
    assert secret not in written("event", detail=text)
    crashed = written("event", crash=text)
    assert secret not in crashed
    assert "RuntimeError" in crashed


@pytest.mark.parametrize("name", ["password", "authorization", "token", "secret", "admin_key", "key", "api_key"])
def test_a_field_with_the_name_of_a_secret_is_hidden_whatever_it_holds(written: Write, name: str) -> None:
    assert "hunter2" not in written("event", **{name: "hunter2"})
    assert "hunter2" not in written("event", **{name: ["hunter2"]})


@pytest.mark.parametrize(
    "value",
    [[KEY], {"detail": {"x": f"Bearer {JWT}"}}, {"token": "hunter2-sk"}, RuntimeError(KEY), KEY.encode(), (KEY,)],
    ids=["list", "nested", "hidden name inside", "error", "bytes", "tuple"],
)
def test_no_secret_comes_through_a_value_that_is_no_text(written: Write, value: Any) -> None:
    out = written("event", error=value)
    assert not any(secret in out for secret in (KEY, JWT, "hunter2-sk"))


@pytest.mark.parametrize("text", [f"alias_{KEY}", f"key%3D{KEY}", f"my_{TOKEN}"], ids=["alias", "escaped", "token"])
def test_no_secret_hides_behind_the_end_of_another_word(text: str) -> None:
    assert KEY not in logs.mask(text)
    assert TOKEN not in logs.mask(text)


def test_ordinary_words_stay_as_they_are() -> None:
    text = "user ask-me-12345 of risk-assessment revoked; bearer of news; sk-1; task sk"
    assert logs.mask(text) == text


@pytest.mark.parametrize("char", ["\r", "\n", "\r\n", "\x1b[31m"])
def test_a_name_cannot_break_a_line_or_colour_the_terminal(written: Write, char: str) -> None:
    out = written("user.created", subject=f"eve{char}forged line")
    assert len(out.splitlines()) == 1
    assert "\x1b[31m" not in out
    assert "forged line" in out


@pytest.mark.parametrize("char", ["\x00", "\x07", "\x08", "\x7f", "\x85", "\x9b31m", "\u2028"], ids=ascii)
def test_no_other_control_character_comes_through(char: str) -> None:
    assert char[0] not in logs.mask(f"eve{char}")


@pytest.mark.parametrize("written", ["text"], indirect=True)
def test_no_control_character_comes_through_a_traceback(written: Write) -> None:
    assert "\x1b" not in written("event", crash="red \x1b[31m alert")


def test_json_lines_are_json_with_time_level_and_event() -> None:
    out = io.StringIO()
    with redirect_stderr(out):
        logs.configure("info", "json")
        structlog.get_logger("test").info("user.created", subject="adé")
        structlog.get_logger("test").debug("not.shown")
    structlog.reset_defaults()
    [line] = out.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["subject"]) == ("user.created", "info", "adé")
    assert entry["ts"].endswith("Z")


def test_logs_go_to_stderr_and_never_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger("test").info("event")
    structlog.reset_defaults()
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "event" in seen.err
    assert sys.stdout is not sys.stderr
