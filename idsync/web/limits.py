"""Bounds on what a stranger may send: no server that was tried bounds a body in size or in time by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

SERVING = 64
"""Requests of one source that are served at a time."""
WAITING = 1000
"""Requests of one source that wait for their turn; more than that is a flood."""
LARGE_BODY = 64 * 1024
"""Bytes from which on a body counts as large; all that may wait with smaller ones take 65 MiB."""
LARGE_BODIES = 16
"""Large bodies of one source in memory at a time; further ones wait, unread."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class TooLarge(Exception):
    """The body is larger than is served."""


class TooSlow(Exception):
    """The body did not arrive in time."""


class Gone(Exception):
    """The client hung up before its body was complete; nobody waits for an answer."""


class Flooded(Exception):
    """A source has more requests waiting than is reasonable; `first` is set for the first one of a flood."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.first = first


class Turnstile:
    """Lets a source have so many requests served at a time; others wait in order, and only a flood is turned away.

    Slow answers do an identity provider no harm, refusals do: rate limits have put Entra tenants in quarantine. As
    every source has its own, one that floods delays the others by no more than what is being served.
    """

    def __init__(self, serving: int = SERVING, waiting: int = WAITING) -> None:
        self._turn = asyncio.Semaphore(serving)
        self._large = asyncio.Semaphore(LARGE_BODIES)
        self._unread = 0
        self._most = serving + waiting
        self._inside = 0
        self._flooded = False

    @property
    def inside(self) -> int:
        """How many requests are being served or wait for it."""
        return self._inside

    @asynccontextmanager
    async def room(self, headers: Mapping[str, str]) -> AsyncIterator[None]:
        """Wait until there is room for a body; small ones always have it.

        Raises:
            Flooded: too many are waiting already.
        """
        declared = headers.get("content-length", "0")
        if "transfer-encoding" not in headers and declared.isdigit() and int(declared) <= LARGE_BODY:
            yield
            return
        if self._unread >= self._most:
            raise self._flood()
        self._unread += 1
        try:
            await self._large.acquire()
        finally:
            self._unread -= 1
        try:
            yield
        finally:
            self._large.release()

    def _flood(self) -> Flooded:
        first, self._flooded = not self._flooded, True
        return Flooded(first=first)

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            Flooded: too many are waiting already.
        """
        if self._inside >= self._most:
            raise self._flood()
        self._inside += 1
        try:
            await self._turn.acquire()
        except BaseException:
            self._inside -= 1
            raise

    async def __aexit__(self, *why: object) -> None:
        self._turn.release()
        self._inside -= 1
        self._flooded = self._flooded and self._inside > 0


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
