"""A source that floods: it waits, then it is told to come later, and nobody else notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import PREFIX, Served, build, shut

from idsync.web.auth import ScimSource
from idsync.web.limits import LARGE_BODIES, LARGE_BODY, SERVING, WAITING, Flooded, Turnstile


def scope(source: str, method: str = "POST", path: str = "/Users", *more: tuple[bytes, bytes]) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer secret-of-{source}".encode()), *more]
    return {
        "type": "http",
        "method": method,
        "path": PREFIX + path,
        "root_path": PREFIX,
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }


class Request:
    """One request to the application; its body comes when `body` is called, or never."""

    def __init__(self, served: Served, source: str, method: str = "POST", *more: tuple[bytes, bytes]) -> None:
        self.status = 0
        self.read = False
        self.headers: dict[bytes, bytes] = {}
        self._message: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(served.app(scope(source, method, "/Users", *more), self._receive, self._send))

    async def _receive(self) -> MutableMapping[str, Any]:
        self.read = True
        return await self._message

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])

    def body(self, data: bytes = b"") -> None:
        self._message.set_result({"type": "http.request", "body": data, "more_body": False})


def test_a_flood_is_answered_429_and_the_others_are_served(tmp_path: Path) -> None:
    served = build(tmp_path, {name: ScimSource(name) for name in ("okta", "entra")}, body_seconds=60.0)

    async def flood() -> None:
        gate = threading.Event()  # the disk takes its time
        served.store.submit(lambda db: gate.wait(60), urgent=True)
        stuck = [Request(served, "okta") for _ in range(SERVING + WAITING)]
        for number, request in enumerate(stuck):
            request.body(b'{"userName": "u%d"}' % number)
        for _ in range(20):
            await asyncio.sleep(0)
        late = Request(served, "okta")
        late.body(b'{"userName": "late"}')
        await late.task
        assert late.status == 429
        assert late.headers[b"retry-after"] == b"5"
        other = Request(served, "entra", "GET")
        other.body()
        await other.task
        assert other.status == 200
        gate.set()
        await asyncio.gather(*(request.task for request in stuck))
        assert {request.status for request in stuck} == {201}
        again = Request(served, "okta", "GET")
        again.body()
        await again.task
        assert again.status == 200

    try:
        asyncio.run(flood())
    finally:
        shut(served)


def test_turns_are_given_in_order_and_a_flood_is_told_once() -> None:
    async def crowd() -> list[int]:
        turnstile, order = Turnstile(serving=1, waiting=2), list[int]()
        gate = asyncio.Event()

        async def pass_through(number: int) -> None:
            async with turnstile:
                await gate.wait()
                order.append(number)

        tasks = [asyncio.create_task(pass_through(number)) for number in range(3)]
        await asyncio.sleep(0)
        told = []
        for _ in range(2):
            with pytest.raises(Flooded) as flooded:
                await pass_through(9)
            told.append(flooded.value.first)
        assert told == [True, False]
        tasks[1].cancel()  # whoever gives up while waiting makes room
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pass_through(3)
        return order

    assert asyncio.run(crowd()) == [0, 2, 3]


@pytest.mark.parametrize(
    "header",
    [(b"content-length", b"%d" % (LARGE_BODY + 1)), (b"transfer-encoding", b"chunked")],
    ids=["long", "chunked"],
)
def test_large_bodies_wait_unread_and_small_ones_pass_them(tmp_path: Path, header: tuple[bytes, bytes]) -> None:
    served = build(tmp_path, {"okta": ScimSource("okta")}, body_seconds=60.0)

    async def crowd() -> None:
        large = [Request(served, "okta", "POST", header) for _ in range(3 * LARGE_BODIES)]
        small = Request(served, "okta", "POST", (b"content-length", b"%d" % LARGE_BODY))
        small.body(b'{"userName": "small"}')
        await small.task
        assert (small.status, sum(one.read for one in large)) == (201, LARGE_BODIES)
        for number, one in enumerate(large):
            one.body(b'{"userName": "u%d"}' % number)
        await asyncio.gather(*(one.task for one in large))
        assert {one.status for one in large} == {201}

    try:
        asyncio.run(crowd())
    finally:
        shut(served)
