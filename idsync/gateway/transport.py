"""One exchange with the gateway over a pooled connection: bytes out, an `Answer` in, nothing interpreted.

Every exchange has a connect, a read and a total time-out. Redirects are not followed, cookies not kept, proxies of the
environment not used, bodies read up to a limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from idsync.errors import Transient
from idsync.gateway.answers import Answer
from idsync.outbound import read, trust, why

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 5.0


class NoAnswer(Transient):
    """The gateway did not answer. `stale` says that a pooled connection had died before the call could arrive.

    `unreached`: there was no connection; `plain` is the message without what was added to it on its way.
    """

    def __init__(self, message: str, *, stale: bool = False, unreached: bool = False, plain: str = "") -> None:
        self.stale = stale
        self.unreached = unreached
        self.plain = plain or message
        super().__init__(message)


@dataclass
class _Attempt:
    reused: bool = False


class Transport:
    """A session to one origin. `timeout` is the most seconds an exchange may take, connecting included.

    With `fresh` every exchange has a connection of its own: behind a load balancer each may meet another process.
    """

    def __init__(
        self, base_url: str, *, timeout: float, connections: int, ca_file: str = "", fresh: bool = False
    ) -> None:
        self._base = base_url.rstrip("/")
        self._timeout = timeout
        trusted = trust(ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=trusted, ttl_dns_cache=30, force_close=fresh),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_reuse_trace()],
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "idsync"},
            skip_auto_headers=["Content-Type"],
        )
        # aiohttp would send GET, PUT and DELETE again by itself, also on fresh connections and unseen by receipts.
        self._session._retry_connection = False

    async def close(self) -> None:
        await self._session.close()

    async def exchange(
        self,
        verb: str,
        path: str,
        *,
        query: str = "",
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str],
        patient: bool,
        limit: int,
    ) -> Answer:
        """Send one call and read its answer up to `limit` bytes. `patient`: the first byte may take the whole time.

        Raises:
            NoAnswer: nothing usable came back; the call may have had its effect.
        """
        attempt = _Attempt()
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        sent = dict(headers) if data is None else {**headers, "Content-Type": "application/json"}
        try:
            async with self._session.request(
                verb,
                URL(f"{self._base}{path}{query and '?'}{query}", encoded=True),
                data=data,
                headers=sent,
                allow_redirects=False,
                timeout=self._times(patient),
                trace_request_ctx=attempt,
            ) as response:
                taken = await read(response, limit)
                return Answer(response.status, response.headers, taken[:limit], complete=len(taken) <= limit)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise NoAnswer(why(error, "the gateway"), stale=attempt.reused, unreached=_unreached(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswer(why(error, "the gateway"), unreached=_unreached(error)) from None

    def _times(self, patient: bool) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=self._timeout,
            sock_connect=min(CONNECT_TIMEOUT, self._timeout),
            sock_read=self._timeout if patient else min(READ_TIMEOUT, self._timeout),
        )


def _unreached(error: Exception) -> bool:
    foreign = isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError))
    return isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)) and not foreign


def _reuse_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    trace.on_connection_create_end.append(_note_fresh)
    return trace


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


async def _note_fresh(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = False
