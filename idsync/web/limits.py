"""Bounds on what a stranger may send: no server that was tried bounds a body in size or in time by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class TooLarge(Exception):
    """The body is larger than is served."""


class TooSlow(Exception):
    """The body did not arrive in time."""


class Gone(Exception):
    """The client hung up before its body was complete; nobody waits for an answer."""


async def read_body(receive: Receive, *, declared: str | None, limit: int, seconds: float) -> bytes:
    """Read a request body of at most `limit` bytes within `seconds`, whether its length is declared or not.

    What is over the limit is read and thrown away for the rest of that time: a client that is cut off while it still
    sends would see a reset connection instead of the answer.

    Raises:
        TooLarge: it is declared or turns out to be larger.
        TooSlow: it is not complete in time.
        Gone: the client hung up.
    """
    body = _Body(limit, too_large=declared is not None and declared.isdigit() and int(declared) > limit)
    try:
        async with asyncio.timeout(seconds):
            while body.open:
                body.take(await receive())
    except TimeoutError:
        raise (TooLarge if body.too_large else TooSlow) from None
    if body.too_large:
        raise TooLarge
    return b"".join(body.chunks)


class _Body:
    def __init__(self, limit: int, *, too_large: bool) -> None:
        self.chunks: list[bytes] = []
        self.open = True
        self.too_large = too_large
        self._left = limit

    def take(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        self.open = message.get("more_body", False)
        self._left -= len(chunk)
        self.too_large = self.too_large or self._left < 0
        if self.too_large:
            self.chunks.clear()
        else:
            self.chunks.append(chunk)
