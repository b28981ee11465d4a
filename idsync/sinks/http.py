"""Calls of the API that a sink is: JSON out and in, one connection for each delivery, no redirects, no proxies."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from idsync import outbound
from idsync.errors import ConfigError, SinkFailed

CONNECT_TIMEOUT = 5.0
MOST = 4 * 1024 * 1024
"""Bytes of an answer; a Kubernetes Secret has at most 1 MiB."""


@dataclass(frozen=True)
class Answer:
    """`body` is {} where there is none, or no JSON object."""

    status: int
    body: Mapping[str, Any]

    def at(self, *keys: str) -> Any:
        """Return what is at these keys, one in the other; None: nothing."""
        found: Any = self.body
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


class Calls:
    """An open session to `base_url`, which `whom` names in sentences; every call takes at most `timeout` seconds."""

    def __init__(self, whom: str, base_url: str, *, timeout: float, ca_file: str = "") -> None:
        self._whom = whom
        self._base = base_url.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_trusted(ca_file)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_TIMEOUT, timeout)),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "idsync"},
        )
        # aiohttp would send a call again by itself when a connection breaks.
        self._session._retry_connection = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str],
        content_type: str = "application/json",
        writes: bool = False,
    ) -> Answer:
        """Send one call. `path` is percent-encoded already; `writes` says that losing the answer loses what happened.

        Raises:
            SinkFailed: no answer.
        """
        data = None if body is None else json.dumps(body).encode()
        sent = dict(headers) if data is None else {**headers, "Content-Type": content_type}
        try:
            async with self._session.request(
                verb, URL(f"{self._base}{path}", encoded=True), data=data, headers=sent, allow_redirects=False
            ) as response:
                taken = await outbound.read(response, MOST)
                return Answer(response.status, _object(taken) if len(taken) <= MOST else {})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            lost = "; nobody knows whether it has the secret" if writes else ""
            raise SinkFailed(f"{outbound.why(error, self._whom)} ({self._base}){lost}") from None


def secret_of(read: Callable[[], str]) -> str:
    """Read idsync's own credential for a sink.

    Raises:
        SinkFailed: its file cannot be read, or could not be sent.
    """
    try:
        found = read()
    except ConfigError as error:
        raise SinkFailed("; ".join(f"{path}: {what}" for path, what in error.problems)) from None
    if not found.isascii() or not found.isprintable():
        raise SinkFailed("the token in the file is more than one line of plain characters; write the token alone")
    return found


def _trusted(ca_file: str) -> ssl.SSLContext | bool:
    try:
        return outbound.trust(ca_file)
    except ConfigError:
        msg = f"{ca_file} cannot be read as PEM certificates"
        raise SinkFailed(msg) from None


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
