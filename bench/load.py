"""A small load generator: keep-alive connections on asyncio streams, as many requests in flight as connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Request = tuple[str, str, bytes]
"""Method, path, body."""


@dataclass
class Result:
    """What a load run measured; `seconds` holds one latency a request, in order of completion."""

    elapsed: float = 0.0
    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.elapsed

    def quantile(self, q: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


async def run(base: str, token: str, requests: Iterator[Request], *, clients: int, seconds: float) -> Result:
    """Send requests over `clients` connections until time or requests run out."""
    result = Result()
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*(_client(base, token, requests, end, result) for _ in range(clients)))
    result.elapsed = time.perf_counter() - start
    return result


async def _client(base: str, token: str, requests: Iterator[Request], end: float, result: Result) -> None:
    parts = urlsplit(base)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"Host: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/scim+json\r\n"
    try:
        for method, path, body in requests:
            if time.perf_counter() > end:
                break
            began = time.perf_counter()
            line = f"{method} {parts.path}{path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n"
            writer.write(line.encode() + body)
            status = await _answer(reader)
            result.seconds.append(time.perf_counter() - began)
            result.statuses[status] = result.statuses.get(status, 0) + 1
    finally:
        writer.close()
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    if length:
        await reader.readexactly(length)
    return int(head[9:12])


def each(build: Callable[[int], tuple[str, str, object]], count: int) -> Iterator[Request]:
    """Yield `count` requests."""
    for index in range(count):
        method, path, body = build(index)
        yield method, path, b"" if body is None else json.dumps(body).encode()
