"""How many calls a second each way of speaking HTTP makes to the sandbox: why the gateway client is built on aiohttp.

    .venv/bin/python -m bench.transport [--calls 4000] [--rounds 5]

Sixteen callers, keep-alive, one POST with a JSON body and one small JSON answer each. The sandbox runs in a process of
its own. Ways take turns in every round, so that a busy moment of the machine hits all alike; the median counts.
The raw clients are the yardstick, not candidates: they know neither TLS nor chunks nor time-outs.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import multiprocessing
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvloop

from idsync.clock import SystemClock
from idsync.gateway.client import Gateway, GatewaySettings
from idsync.gateway.transport import Transport

CALLERS = 16
ADMIN_KEY = "sk-admin-1234"
PATH = "/key/block"

Way = Callable[[str, str, int], None]
"""Make so many calls to a URL about a key id."""


def serve(pipe: Connection) -> None:
    """Run a sandbox until told to stop (in a process of its own)."""
    from idsync.sandbox.server import Options, Sandbox

    with Sandbox(Options(admin_key=ADMIN_KEY)) as sandbox:
        pipe.send(sandbox.url)
        pipe.recv()


@contextmanager
def sandbox() -> Iterator[tuple[str, str]]:
    """Start a sandbox with one key; yield its URL and the id of the key."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    url = ours.recv()
    try:
        yield url, seed(url)
    finally:
        ours.send("stop")
        process.join()


def seed(url: str) -> str:
    body = json.dumps({"users": [{"user_id": "ann"}], "keys": [{"user_id": "ann"}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_sandbox/seed", data=body)) as response:
        return str(json.load(response)["keys"][0]["token"])


def shares(calls: int) -> list[int]:
    """Divide the calls among the callers."""
    return [calls // CALLERS] * CALLERS


def on_a_loop(main: Callable[[str, str, int], Awaitable[None]]) -> Way:
    def way(url: str, key: str, calls: int) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_awaited(main(url, key, calls)))

    return way


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def whole_client(url: str, key: str, calls: int) -> None:
    """The client as the engine uses it: gate, verbs, receipts, parsing."""

    async def caller(gateway: Gateway, share: int) -> None:
        for _ in range(share):
            assert await gateway.block_key(key)

    async with Gateway(GatewaySettings(url, "litellm"), lambda: ADMIN_KEY, SystemClock()) as gateway:
        await asyncio.gather(*(caller(gateway, share) for share in shares(calls)))


async def transport_only(url: str, key: str, calls: int) -> None:
    """Our transport over aiohttp: time-outs, pool, bounded bodies."""
    transport = Transport(url, timeout=10, connections=CALLERS)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

    async def caller(share: int) -> None:
        for _ in range(share):
            answer = await transport.exchange(
                "POST", PATH, body={"key": key}, headers=headers, patient=False, limit=2 << 20
            )
            assert answer.status == 200
            json.loads(answer.body)

    try:
        await asyncio.gather(*(caller(share) for share in shares(calls)))
    finally:
        await transport.close()


def request_bytes(url: str, key: str) -> bytes:
    body = json.dumps({"key": key}).encode()
    lines = [
        f"POST {PATH} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"Authorization: Bearer {ADMIN_KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def raw_streams(url: str, key: str, calls: int) -> None:
    """The least that can be done with asyncio streams."""
    request = request_bytes(url, key)
    place = urlsplit(url)

    async def caller(share: int) -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for _ in range(share):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            json.loads(await reader.readexactly(length))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(caller(share) for share in shares(calls)))


def threads(url: str, key: str, calls: int) -> None:
    """http.client, one connection and one thread a caller."""
    place = urlsplit(url)
    body = json.dumps({"key": key})
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}

    def caller(share: int) -> None:
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
        for _ in range(share):
            connection.request("POST", PATH, body, headers)
            response = connection.getresponse()
            assert response.status == 200
            json.loads(response.read())
        connection.close()

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(caller, shares(calls)))


WAYS: dict[str, Way] = {
    "asyncio streams, bare": on_a_loop(raw_streams),
    "aiohttp, our transport": on_a_loop(transport_only),
    "aiohttp, whole client": on_a_loop(whole_client),
    "http.client, 16 threads": threads,
}


def measure(url: str, key: str, calls: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return calls a second and client CPU microseconds a call, of every way, a pair a round."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for way in WAYS.values():
        way(url, key, calls // 4)
    for _ in range(rounds):
        for name, way in WAYS.items():
            began, cpu = time.perf_counter(), time.process_time()
            way(url, key, calls)
            spent = time.process_time() - cpu
            rates[name].append((calls / (time.perf_counter() - began), 1e6 * spent / calls))
    return rates


def table(rates: dict[str, list[tuple[float, float]]]) -> str:
    speed = {name: statistics.median(rate for rate, _ in rounds) for name, rounds in rates.items()}
    cpu = {name: statistics.median(spent for _, spent in rounds) for name, rounds in rates.items()}
    best = max(speed.values())
    lines = [f"{'way':<26}{'calls/s':>9}{'of best':>9}{'CPU us/call':>13}"]
    lines += [f"{name:<26}{rate:>9,.0f}{rate / best:>9.2f}{cpu[name]:>13.0f}" for name, rate in speed.items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), cache_logger_on_first_use=True
    )
    calls = max(chosen.calls // CALLERS, 1) * CALLERS
    with sandbox() as (url, key):
        print(table(measure(url, key, calls, chosen.rounds)))


if __name__ == "__main__":
    main()
