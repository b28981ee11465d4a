"""One exchange with Microsoft over a pooled connection: bytes out, bytes in, nothing interpreted.

Every exchange has a connect, a read and a total time-out. Redirects are not followed, cookies not kept, proxies and
certificate settings of the environment not used, bodies read up to a limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from idsync.errors import IncompleteSource, SourceUnreachable
from idsync.outbound import read, trust, why

CONNECT_TIMEOUT = 10.0
LONGEST = 32 * 1024 * 1024
"""Bytes of an answer; a page of 999 users is half a megabyte."""


@dataclass(frozen=True)
class Reply:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Connections to Microsoft; opened by the first exchange."""

    def __init__(self, *, timeout: float, connections: int, ca_file: str = "") -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=timeout, sock_connect=min(CONNECT_TIMEOUT, timeout), sock_read=timeout
        )
        self._connections = connections
        self._trusted = trust(ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def exchange(self, verb: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send one request and read its answer.

        Raises:
            SourceUnreachable: nothing usable came back.
            IncompleteSource: more came back than any answer holds.
        """
        try:
            async with self._open().request(
                verb,
                URL(url, encoded=True),
                data=body,
                headers=dict(headers),
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                taken = await read(response, LONGEST)
                if len(taken) > LONGEST:
                    msg = f"an answer is longer than {LONGEST} bytes"
                    raise IncompleteSource(msg)
                return Reply(response.status, response.headers, taken)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise SourceUnreachable(why(error)) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._trusted, ttl_dns_cache=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "idsync"},
                skip_auto_headers=["Content-Type"],
            )
            # aiohttp would send a GET again by itself, unseen by what counts and paces requests.
            self._session._retry_connection = False
        return self._session
