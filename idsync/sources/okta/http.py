"""One request to Okta after another: bounded, paced, authorised, tried again where that can help, nothing interpreted.

Every request has a connect, a read and a total time-out. Redirects are not followed, cookies not kept, proxies and
configuration of the environment not used, bodies read up to a limit, and no credential goes to another address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from idsync.clock import Clock
from idsync.errors import IncompleteSource, SourceUnreachable
from idsync.outbound import read, trust, why
from idsync.sources.okta.limits import Bucket, Sleep, date_of
from idsync.sources.pager import Answer, is_within

MOST_BYTES = 32 * 2**20
"""Bytes of the longest answer that is read: 1,000 events have 3 to 5 MB."""
CONNECT_TIMEOUT = 10.0
TRIES = 3
"""How often a request is sent that gets no answer or a 5xx."""

Observe = Callable[[str, str, float], None]


def unmeasured(_endpoint: str, _code: str, _seconds: float) -> None:
    """Measure nothing."""


@dataclass(frozen=True)
class Request:
    """What is sent: `form` makes it a POST."""

    url: str
    headers: dict[str, str] = field(repr=False)
    form: dict[str, str] | None = field(default=None, repr=False)


class Credential(Protocol):
    """What proves to Okta who is asking."""

    async def headers(self, url: str) -> dict[str, str]:
        """Return the headers that authorise a GET."""
        ...

    async def renew(self, answer: Answer) -> bool:
        """Take in a refusal; tell whether the same request is worth another try."""
        ...


class Wire:
    """A session to one org. `patience` is how many seconds may pass without any usable answer before it gives up."""

    def __init__(
        self,
        name: str,
        base: str,
        clock: Clock,
        *,
        timeout: float,
        share: float,
        concurrency: int,
        patience: float,
        ca_file: str = "",
        most_bytes: int = MOST_BYTES,
        observe: Observe = unmeasured,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.name = name
        self.base = base
        self._clock = clock
        self._timeout = timeout
        self._share = share
        self._patience = patience
        self._most_bytes = most_bytes
        self._observe = observe
        self._sleep = sleep
        self._trusted = trust(ca_file)
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._buckets: dict[str, Bucket] = {}
        self._session: aiohttp.ClientSession | None = None
        self._ahead = 0.0

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def server_time(self) -> float:
        """Return the time of Okta's clock, as far as its last answer told it."""
        return self._clock.now() + self._ahead

    @property
    def clock_is_off(self) -> float:
        """By how many seconds Okta's clock is ahead of this machine's."""
        return self._ahead

    async def get(
        self, url: str, endpoint: str, credential: Credential, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a GET and return its answer, of whatever status but a refusal that another try could end.

        Raises:
            SourceUnreachable: no answer.
            IncompleteSource: the address is not Okta's, or the answer too long.
        """
        if not is_within(url, self.base):
            msg = f"{self.name}: a link leads to another address, which is not followed"
            raise IncompleteSource(msg)

        async def build() -> Request:
            return Request(url, {**(headers or {}), **await credential.headers(url)})

        renewed = 0
        while True:
            answer = await self.exchange(endpoint, build)
            if answer.status not in (400, 401) or renewed == 2 or not await credential.renew(answer):
                return answer
            renewed += 1

    async def exchange(self, endpoint: str, build: Callable[[], Awaitable[Request]]) -> Answer:
        """Send what `build` makes, anew at each try. Raises as `get` does."""
        bucket = self._bucket(endpoint)
        given_up = self._clock.monotonic() + self._patience
        refusals = failures = 0
        while True:
            answer, trouble = await self._once(endpoint, bucket, build)
            if answer is not None and answer.status == 429:
                wait = bucket.close(answer.headers, refusals)
                refusals += 1
            elif answer is None or answer.status >= 500:
                failures += 1
                wait = bucket.back_off(failures)
            else:
                return answer
            if failures >= TRIES or self._clock.monotonic() + wait > given_up:
                if answer is not None:
                    return answer
                msg = f"{self.name}: {endpoint}: {trouble}"
                raise SourceUnreachable(msg)
            await self._sleep(wait)

    async def _once(
        self, endpoint: str, bucket: Bucket, build: Callable[[], Awaitable[Request]]
    ) -> tuple[Answer | None, str]:
        await bucket.enter()
        try:
            request = await build()  # only now: a proof made before a long wait would be too old
            async with self._slots:
                started = self._clock.monotonic()
                try:
                    answer = await self._send(request, endpoint)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self._observe(endpoint, "none", self._clock.monotonic() - started)
                    return None, why(error)
                self._observe(endpoint, str(answer.status), self._clock.monotonic() - started)
                bucket.learn(answer.headers)
                self._compare_clocks(answer)
                return answer, ""
        finally:
            bucket.leave()

    async def _send(self, request: Request, endpoint: str) -> Answer:
        at = self._clock.now()
        async with self._opened().request(
            "GET" if request.form is None else "POST",
            URL(request.url, encoded=True),
            headers=request.headers,
            data=request.form,
            allow_redirects=False,
        ) as response:
            taken = await read(response, self._most_bytes)
            if len(taken) > self._most_bytes:
                msg = f"{self.name}: {endpoint}: an answer of more than {self._most_bytes} bytes"
                raise IncompleteSource(msg)
            joined = {name: ", ".join(response.headers.getall(name)) for name in response.headers}
            return Answer(response.status, CIMultiDict(joined), taken, at)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._concurrency + 1, ssl=self._trusted, ttl_dns_cache=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "idsync"},
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout,
                    sock_connect=min(CONNECT_TIMEOUT, self._timeout),
                    sock_read=self._timeout,
                ),
                trust_env=False,
            )
            # aiohttp would send a GET again by itself, unseen by what counts requests.
            self._session._retry_connection = False
        return self._session

    def _bucket(self, endpoint: str) -> Bucket:
        return self._buckets.setdefault(endpoint, Bucket(self._share, self._clock, self._sleep))

    def _compare_clocks(self, answer: Answer) -> None:
        said = date_of(answer.headers)
        if said is not None:
            self._ahead = said - answer.at
