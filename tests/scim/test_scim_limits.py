"""Bodies that are too large, too slow, or never come; tokens; addresses."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import pytest

from idsync.clock import ManualClock
from idsync.store.tokens import REREAD
from idsync.web.auth import Tokens, allowed, bearer
from idsync.web.limits import Gone, Receive, TooLarge, TooSlow, read_body


def chunks(*parts: bytes, then: str = "http.disconnect") -> Receive:
    """Return a receive that gives these parts and hangs up before the end if `then` says so."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages.append({"type": then, "body": b"", "more_body": False})

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    return receive


def read(receive: Receive, declared: str | None = None, seconds: float = 5.0) -> bytes:
    return asyncio.run(read_body(receive, declared=declared, limit=10, seconds=seconds))


def test_a_body_up_to_the_limit() -> None:
    assert read(chunks(b"12345", b"67890", then="http.request"), "10") == b"1234567890"
    assert read(chunks(then="http.request")) == b""


@pytest.mark.parametrize("declared", [None, "11", "5", "nonsense"])
def test_a_body_over_the_limit(declared: str | None) -> None:
    with pytest.raises(TooLarge):
        read(chunks(b"12345", b"678901", then="http.request"), declared)


def test_a_client_that_hangs_up() -> None:
    with pytest.raises(Gone):
        read(chunks(b"123"))


@pytest.mark.parametrize(("declared", "error"), [(None, TooSlow), ("11", TooLarge)])
def test_a_client_that_waits(declared: str | None, error: type[Exception]) -> None:
    async def receive() -> MutableMapping[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    with pytest.raises(error):
        read(receive, declared, seconds=0.01)


@dataclass(frozen=True)
class Known:
    id: str
    kind: str
    name: str
    digest: str
    scope: str = ""
    expires_at: float | None = None


def known(secret: str, kind: str = "source") -> Known:
    return Known(secret, kind, "okta", hashlib.sha256(secret.encode()).hexdigest())


def test_tokens_are_read_again_when_old_or_missed() -> None:
    live, clock, reads = [known("first")], ManualClock(), [0]

    def load() -> list[Known]:
        reads[0] += 1
        return list(live)

    tokens = Tokens(load, clock)
    assert tokens.check(b"first", "source") == live[0]
    live.append(known("second"))
    assert tokens.check(b"second", "source") == live[1]
    for _ in range(50):
        assert tokens.check(b"wrong", "source") is None
    assert reads[0] == 2
    live.clear()
    assert tokens.check(b"first", "source") is not None
    clock.advance(REREAD)
    assert tokens.check(b"first", "source") is None
    assert reads[0] <= 4


def test_a_token_is_of_one_kind() -> None:
    tokens = Tokens(lambda: [known("op", "operator"), known("src")], ManualClock())
    assert tokens.check(b"op", "source") is None
    assert tokens.check(b"op", "operator") is not None
    assert tokens.check(b"src", "source") is not None
    for secret in (b"", b"x" * 513, b"SRC", hashlib.sha256(b"src").hexdigest().encode()):
        assert tokens.check(secret, "source") is None


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer  abc ", b"abc"),
        (b"Bearer", b""),
        (b"Bearer ", b""),
        (b"Basic abc", b""),
        (b"abc", b""),
        (b"Bearer \xc3\xa9", b""),
        (b"Bearer\tabc", b""),
    ],
)
def test_bearer_credentials(value: bytes, secret: bytes) -> None:
    assert bearer([(b"Authorization", value)]) == secret
    assert bearer([(b"authorization", value), (b"authorization", value)]) == b""
    assert bearer([]) == b""


@pytest.mark.parametrize(
    ("client", "fine"),
    [
        (("192.0.2.7", 1), True),
        (("::ffff:192.0.2.7", 1), True),
        (("2001:db8::1", 1), True),
        (("198.51.100.1", 1), False),
        (("2001:db9::1", 1), False),
        (("testclient", 1), False),
        ((), False),
        (None, False),
    ],
)
def test_networks(client: Any, fine: bool) -> None:
    networks = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert allowed(client, networks) is fine
    assert allowed(client, ()) is True
