"""Every scripted session of a real identity provider, against the real endpoint."""

from __future__ import annotations

import pytest
from support.endpoint import Client
from vectors.replayer import Answer, Request, Session, sessions


@pytest.mark.parametrize("name", sessions())
def test_a_session_is_played_without_a_complaint(okta: Client, name: str) -> None:
    def transport(request: Request) -> Answer:
        headers: dict[str, str | None] = {"Authorization": None, **request.headers}
        got = okta.send(request.method, request.target, request.body, headers)
        return Answer(got.status, got.headers, got.raw)

    assert list(Session(name, okta.token, transport).play()) == []


def test_a_server_that_forgets_is_complained_about(okta: Client) -> None:
    """Prove that the player can fail: its answers come from a server that never knows anybody."""

    def transport(request: Request) -> Answer:
        empty = request.method == "GET" and "/Users/" in request.target
        got = okta.get("/Users/nobody") if empty else okta.send(request.method, request.target, request.body)
        return Answer(got.status, got.headers, got.raw)

    assert any("404 instead of [200]" in line for line in Session("leaver_shapes", okta.token, transport).play())


def test_all_eight_sessions_are_here() -> None:
    assert len(sessions()) == 8
