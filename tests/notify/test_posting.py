"""Over HTTP: where notifications may go, how they are signed, and what is made of the answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from idsync.errors import NotDelivered
from idsync.notify.posting import ANSWER_LIMIT, Way, is_allowed, post, signed

from .standins import Hook, certificate, hook

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "fe80::1%eth0",
    "0.0.0.0",  # noqa: S104
    "::",
    "224.0.0.1",
    "ff02::1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "240.0.0.1",
    "255.255.255.255",
]
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "::ffff:10.0.0.1",
    "fd00::1",
]
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]


@pytest.mark.parametrize("address", [*NEVER, *PRIVATE, *PUBLIC, "100.64.0.1"])
def test_where_notifications_may_go(address: str) -> None:
    allowed = {private for private in (False, True) if is_allowed(address, private=private)}
    assert allowed == ({False, True} if address in PUBLIC else {True} if address in PRIVATE else set())


class Names(AbstractResolver):
    """A DNS that says what a test wants, another answer at each question, and then the last one again."""

    def __init__(self, *addresses: str) -> None:
        self._left = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Hook]:
    with hook() as running:
        yield running


@pytest.fixture
def receiver(server: Hook) -> Hook:
    server.answer, server.reply = (200, {}), b"ok"
    server.bodies.clear()
    return server


def deliver(url: str, way: Way, body: bytes = b"{}") -> None:
    asyncio.run(post(url, body, {}, way, whom="the webhook of ops"))


@pytest.mark.parametrize(
    "way",
    [
        ("hooks.example.com", Names("127.0.0.1")),
        ("hooks.example.com", Names("169.254.169.254")),
        ("hooks.example.com", Names("::ffff:127.0.0.1")),
        ("localhost", None),
        ("127.0.0.1", None),
        ("127.1", None),
        ("2130706433", None),
        ("[::ffff:127.0.0.1]", None),
    ],
    ids=lambda way: f"{way[0]}-{getattr(way[1], '_left', 'system')}",
)
def test_no_spelling_leads_to_this_machine_or_to_a_metadata_service(
    receiver: Hook, way: tuple[str, AbstractResolver | None]
) -> None:
    host, resolver = way
    with pytest.raises(NotDelivered, match=r"private or local address|no address"):
        deliver(f"http://{host}:{receiver.port}/hook", Way(5.0, False, resolver=resolver))
    assert receiver.bodies == []


def test_the_address_that_was_looked_at_is_the_one_that_is_called(receiver: Hook) -> None:
    names = Names("127.0.0.1", "169.254.169.254")
    deliver(f"http://hooks.example.com:{receiver.port}/hook", Way(5.0, True, resolver=names))
    assert (names.asked, len(receiver.bodies)) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "said", "pause"),
    [
        ((302, {"Location": "/elsewhere"}), "redirect", 0.0),
        ((404, {}), "answered 404", 0.0),
        ((429, {"Retry-After": "120"}), "answered 429", 120.0),
        ((503, {"Retry-After": "9" * 9}), "answered 503", 3600.0),
        ((503, {"Retry-After": "soon"}), "answered 503", 0.0),
    ],
)
def test_what_is_made_of_an_answer(receiver: Hook, answer: tuple[int, dict[str, str]], said: str, pause: float) -> None:
    receiver.answer = answer
    with pytest.raises(NotDelivered, match=said) as failed:
        deliver(f"{receiver.url}?token=canary-in-the-address", Way(5.0, True))
    assert failed.value.retry_after == pause
    assert "canary" not in str(failed.value)
    assert len(receiver.bodies) == 1, "and nothing else was called"


def test_a_long_answer_is_read_to_its_limit_and_a_silent_receiver_is_left(receiver: Hook) -> None:
    receiver.reply = b"x" * (ANSWER_LIMIT * 1000)
    deliver(receiver.url, Way(5.0, True))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(NotDelivered, match=r"no answer .* in time"):
            deliver(url, Way(0.2, True))


def test_certificates_are_checked_against_the_name_although_the_address_is_pinned(tmp_path: Path) -> None:
    authority, context = certificate(tmp_path, "hooks.example.com")
    with hook(context) as receiver:
        way = Way(5.0, True, str(authority), Names("127.0.0.1"))
        deliver(f"https://hooks.example.com:{receiver.port}/hook", way)
        for name, trusted in (("other.example.com", str(authority)), ("hooks.example.com", "")):
            with pytest.raises(NotDelivered, match="certificate is not trusted"):
                deliver(f"https://{name}:{receiver.port}/hook", Way(5.0, True, trusted, Names("127.0.0.1")))
        assert len(receiver.bodies) == 1


def test_every_secret_signs_as_standard_webhooks_has_it() -> None:
    """The example of the specification: github.com/standard-webhooks/standard-webhooks, and one of ours."""
    known = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    made = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", body, [known, "plain"], 1614265330.9)
    text = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + body
    plain = base64.b64encode(hmac.new(b"plain", text, hashlib.sha256).digest()).decode()
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": f"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,{plain}",
    }
