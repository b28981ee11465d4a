"""The load generator: a process of its own on uvloop, so that its work is never counted as the server's.

Requests are encoded before the clock starts; a connection is a bare protocol whose answers httptools parses. What the
generator itself needs of its core is part of every result: a figure taken while it was busy all the time is its own.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import multiprocessing
import os
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import cast

import httptools
import uvloop

STOP = "stop"
LOST = 0
"""The status that is counted when a connection was closed instead of an answer."""
HANGS = 300.0
"""Seconds after which a run counts as hanging."""


@dataclass(frozen=True)
class Stream:
    """Requests to a loopback port, over `clients` connections that are kept alive.

    Without `rate` each client sends its next request when the last one is answered. With it that many requests a
    second fall due whether or not earlier ones are answered, and latency counts from then. Ends after `seconds`, or
    with the last request unless they go round and round (`cyclic`).
    """

    port: int
    requests: list[bytes]
    clients: int
    seconds: float = math.inf
    rate: float | None = None
    cyclic: bool = False


@dataclass
class Result:
    """One entry a request, in order of completion: when it fell due (epoch seconds) and how long it took (seconds)."""

    at: array[float] = field(default_factory=lambda: array("d"))
    took: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[int] = field(default_factory=Counter)
    elapsed: float = 0.0
    load: float = 0.0
    """The share of one core that the generator used while this ran, for all streams together."""

    @property
    def rate(self) -> float:
        return len(self.took) / self.elapsed if self.elapsed else 0.0

    @property
    def errors(self) -> dict[int, int]:
        return {status: count for status, count in self.statuses.items() if not 200 <= status < 400}

    def between(self, start: float, end: float) -> list[float]:
        """Return how long the requests took that fell due within a time (epoch seconds)."""
        return [took for at, took in zip(self.at, self.took, strict=True) if start <= at <= end]


class Loader:
    """The generator as its parent sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def run(self, *streams: Stream) -> list[Result]:
        """Send the streams side by side until each has ended."""
        self.start(*streams)
        return self.results()

    def start(self, *streams: Stream) -> None:
        self._pipe.send(streams)

    def stop(self) -> list[Result]:
        """End the streams that were started: nothing more is sent, what is under way is waited for."""
        self._pipe.send(STOP)
        return self.results()

    def results(self) -> list[Result]:
        if not self._pipe.poll(HANGS):
            sys.exit("a server stopped answering")
        return cast("list[Result]", self._pipe.recv())


@contextmanager
def loader() -> Iterator[Loader]:
    """Start the generator; it ends with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Loader(ours)
    finally:
        ours.close()
        process.join(5)
        process.kill()


# -- inside the process -----------------------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    gc.disable()
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        if order == STOP:
            continue  # the streams had ended by themselves
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            pipe.send(runner.run(_drive(order, pipe)))
        gc.collect()


async def _drive(streams: tuple[Stream, ...], pipe: Connection) -> list[Result]:
    lanes = [_Lane(stream) for stream in streams]
    for lane in lanes:
        await lane.connect()

    def stop() -> None:
        pipe.recv()
        for lane in lanes:
            lane.end()

    loop = asyncio.get_running_loop()
    loop.add_reader(pipe.fileno(), stop)
    began, cpu = time.perf_counter(), time.process_time()
    for lane in lanes:
        lane.start()
    await asyncio.gather(*(lane.over for lane in lanes))
    load = (time.process_time() - cpu) / (time.perf_counter() - began)
    loop.remove_reader(pipe.fileno())
    os.set_blocking(pipe.fileno(), True)  # uvloop had made it non-blocking
    for lane in lanes:
        lane.result.load = load
        lane.close()
    return [lane.result for lane in lanes]


class _Lane:
    """One stream while it runs: what is due, and which connections are free."""

    def __init__(self, stream: Stream) -> None:
        self.result = Result()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream = stream
        self._requests = itertools.cycle(stream.requests) if stream.cyclic else iter(stream.requests)
        self._clients: list[_Client] = []
        self._free: deque[_Client] = deque()
        self._due: deque[float] = deque()
        self._fallen_due = 0
        self._began = 0.0
        self._wall = 0.0
        self._ending = False

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._stream.clients):
            await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._stream.port)

    def close(self) -> None:
        for client in self._clients:
            client.transport.close()

    def start(self) -> None:
        self._began = time.perf_counter()
        self._wall = time.time() - self._began
        if self._stream.rate is None:
            self._due.extend([self._began] * self._stream.clients)
            self._go_on()
        else:
            self._tick()

    def end(self) -> None:
        self._ending = True
        if self._stream.rate is None:
            self._due.clear()
        self._go_on()

    def _tick(self) -> None:
        """Let the next request fall due, at a steady rate."""
        rate = self._stream.rate or 1.0
        if self._ending:
            return
        if time.perf_counter() - self._began >= self._stream.seconds:
            self.end()
            return
        self._due.append(time.perf_counter())
        self._fallen_due += 1
        self._go_on()
        wait = self._began + self._fallen_due / rate - time.perf_counter()
        asyncio.get_running_loop().call_later(max(0.0, wait), self._tick)

    def _go_on(self) -> None:
        """Send what is due as far as connections are free; notice the end."""
        while self._due and self._free:
            request = next(self._requests, None)
            if request is None:
                self._ending = True
                self._due.clear()
                break
            self._free.popleft().send(request, self._due.popleft())
        if self._ending and not self._due and len(self._free) == len(self._clients) and not self.over.done():
            self.result.elapsed = time.perf_counter() - self._began
            self.over.set_result(None)

    def opened(self, client: _Client) -> None:
        self._clients.append(client)
        self._free.append(client)

    def answered(self, client: _Client, status: int) -> None:
        now = time.perf_counter()
        self._note(client, status, now)
        self._free.append(client)
        if self._stream.rate is None and not self._ending:
            if now - self._began < self._stream.seconds:
                self._due.append(now)
            else:
                self._ending = True
        self._go_on()

    def lost(self, client: _Client) -> None:
        """Count a connection that was closed; without any left the stream ends."""
        if self.over.done():
            return
        self._clients.remove(client)
        if client in self._free:
            self._free.remove(client)
        else:
            self._note(client, LOST, time.perf_counter())
        if not self._clients:
            self._due.clear()
            self._ending = True
        self._go_on()

    def _note(self, client: _Client, status: int, now: float) -> None:
        self.result.at.append(client.due + self._wall)
        self.result.took.append(now - client.due)
        self.result.statuses[status] += 1


class _Client(asyncio.Protocol):
    """One connection with at most one request under way."""

    transport: asyncio.Transport

    def __init__(self, lane: _Lane) -> None:
        self._lane = lane
        self._parser = httptools.HttpResponseParser(self)
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._lane.opened(self)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._lane.answered(self, self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self._lane.lost(self)
