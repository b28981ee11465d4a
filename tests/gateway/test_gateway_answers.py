"""What each status and shape means, row by row of the table in `answers`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from idsync.errors import (
    AdminKeyRefused,
    BadAnswer,
    Conflicting,
    GatewayError,
    Missing,
    Rejected,
    Throttled,
    Transient,
    Unsupported,
)
from idsync.gateway.answers import LONGEST_PAUSE, Answer, clean, error_of, json_of

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def shape_a(message: str, kind: str = "internal_server_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": "000"}}


HTML = b"<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"

TABLE = [
    (400, shape_a("nope"), Rejected),
    (400, shape_a("already", "team_member_already_in_team"), Conflicting),
    (400, {"detail": {"error": "User not found in team"}}, Rejected),
    (400, {"detail": "bad"}, Rejected),
    (400, HTML, Transient),
    (401, shape_a("Authentication Error", "auth_error"), AdminKeyRefused),
    (401, shape_a("Authentication Error", "token_not_found_in_db"), AdminKeyRefused),
    (401, {"detail": "no"}, AdminKeyRefused),
    (401, b"", AdminKeyRefused),
    (401, HTML, Transient),
    (403, HTML, Transient),
    (403, b"", Transient),
    (403, shape_a("no", "auth_error"), AdminKeyRefused),
    (403, {"detail": "Not authenticated"}, AdminKeyRefused),
    (403, {"detail": {"error": "You must be a LiteLLM Enterprise user to use this feature."}}, Unsupported),
    (403, {"detail": {"error": "user is not in your organization"}}, Rejected),
    (404, {"detail": "Not Found"}, Unsupported),
    (404, {"detail": "Not Found "}, Missing),
    (404, {"detail": "Not Found", "path": "/x"}, Missing),
    (404, {"detail": {"error": "Team not found"}}, Missing),
    (404, shape_a("{'error': 'No keys found'}"), Missing),
    (404, HTML, Transient),
    (404, b"default backend - 404", Transient),
    (404, b"", Transient),
    (404, {"message": "no Route matched with those values"}, Transient),
    (404, {"error": "not found"}, Transient),
    (405, {"detail": "Method Not Allowed"}, Unsupported),
    (405, HTML, Unsupported),
    (408, b"", Transient),
    (409, shape_a("exists"), Conflicting),
    (409, HTML, Transient),
    (413, HTML, Transient),
    (418, shape_a("teapot"), Rejected),
    (422, {"detail": [{"type": "enum", "loc": ["body", "user_role"], "msg": "bad role"}]}, Rejected),
    (422, {"detail": ["odd"]}, Rejected),
    (425, shape_a("early"), Transient),
    (429, b"", Throttled),
    (429, HTML, Throttled),
    (500, b"Internal Server Error", Transient),
    (500, shape_a("boom"), Transient),
    (502, HTML, Transient),
    (503, {"detail": "no db"}, Transient),
    (301, b"", Transient),
    (307, HTML, Transient),
]


@pytest.mark.parametrize(("status", "body", "kind"), TABLE)
def test_each_row_of_the_table(status: int, body: Any, kind: type[GatewayError]) -> None:
    error = error_of(answer(status, body), now=NOW)
    assert type(error) is kind
    assert error.status == status


def test_success_is_no_error() -> None:
    assert error_of(answer(200, {}), now=NOW) is None


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("86400", LONGEST_PAUSE),
        ("9" * 400, LONGEST_PAUSE),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after(raw: str, seconds: float | None) -> None:
    error = error_of(answer(429, b"", Retry_After=raw), now=NOW)
    assert isinstance(error, Throttled)
    assert error.retry_after == seconds


def test_a_redirect_names_where_but_not_the_query() -> None:
    error = error_of(answer(302, b"", Location="https://login.example/x?token=abc"), now=NOW)
    assert "https://login.example" in str(error)
    assert "abc" not in str(error)


def test_messages_hold_no_secret_and_no_control_characters() -> None:
    message = "bad\r\n\x1b[31m key sk-v2-Bw0abcdef_gh and swordfish \u202e end " + "x" * 900
    error = error_of(answer(400, shape_a(message)), now=NOW, secrets=("swordfish",))
    text = str(error)
    assert "sk-v2" not in text
    assert "swordfish" not in text
    assert text.isprintable()
    assert len(text) < 260


def test_a_secret_across_the_cut_is_masked_before_cutting() -> None:
    assert "sk-" not in clean("x" * 190 + "sk-abcdefghijklmnop")


def test_an_answer_does_not_show_its_body() -> None:
    assert "sk-hidden" not in repr(answer(200, {"key": "sk-hidden"}))


@pytest.mark.parametrize("body", [b"", b"  ", HTML, b"OK", b"[1,", b"\xff\xfe", b"[" * 200_000, b"9" * 5000])
def test_a_success_without_json_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        json_of(answer(200, body))


def test_an_empty_204_is_the_success_of_a_writing_call_alone() -> None:
    assert json_of(answer(204), writes=True) == {}
    with pytest.raises(BadAnswer):
        json_of(answer(204))
    with pytest.raises(BadAnswer):
        json_of(answer(200), writes=True)


def test_a_cut_answer_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer):
        json_of(Answer(200, {}, b"{}", complete=False))


def test_a_deeply_nested_refusal_is_nobodys_shape() -> None:
    assert type(error_of(answer(404, b"[" * 200_000), now=NOW)) is Transient
