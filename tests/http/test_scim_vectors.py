"""Every scripted session of a real identity provider, against the real endpoint."""

from __future__ import annotations

import pytest
from scim_serving import Client
from vectors import replayer


@pytest.mark.parametrize("name", replayer.sessions())
def test_a_session_is_played_without_a_complaint(okta: Client, name: str) -> None:
    def transport(request: replayer.Request) -> replayer.Answer:
        headers: dict[str, str | None] = {"Authorization": None, **request.headers}
        got = okta.send(request.method, request.target, request.body, headers)
        return replayer.Answer(got.status, got.headers, got.raw)

    assert list(replayer.Session(name, okta.token, transport).play()) == []


def test_all_eight_sessions_are_here() -> None:
    assert len(replayer.sessions()) == 8
