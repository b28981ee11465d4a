"""Whoever never ends a head, or sends none, is cut off; whoever sent one in time is served however long it takes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from idsync.web.servers import Bounded, Server

HANGS = 30
"""Seconds after which a connection that should have been closed counts as one that never will be."""


class Hasty(Bounded):
    head_seconds = 0.2


@dataclass
class Running:
    """A server whose one page answers, with the body it was sent, once the test allows it."""

    port: int
    asked: threading.Event
    allowed: threading.Event

    def connect(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=HANGS)
        connection.sendall(data)
        return connection


@pytest.fixture
def running() -> Iterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    asked, allowed = threading.Event(), threading.Event()

    async def page(request: Request) -> PlainTextResponse:
        asked.set()
        await asyncio.to_thread(allowed.wait, HANGS)
        return PlainTextResponse(await request.body())

    server = Server(Starlette(routes=[Route("/", page, methods=["POST"])]), listener, http=Hasty)
    thread = threading.Thread(target=lambda: asyncio.run(server.run()))
    thread.start()
    yield Running(listener.getsockname()[1], asked, allowed)
    server.stop()
    thread.join()


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    try:
        while chunk := connection.recv(65536):
            found += chunk
    except ConnectionResetError:
        pass
    return found


WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nX: "])
def test_a_head_that_does_not_come_ends_the_connection(running: Running, sent: bytes) -> None:
    with running.connect(sent) as connection:
        assert until_closed(connection) == b""


def test_the_second_head_of_a_connection_has_a_deadline_as_well(running: Running) -> None:
    running.allowed.set()
    with running.connect(WHOLE) as connection:
        while not connection.recv(65536).endswith(b"ok"):
            continue
        connection.sendall(b"POST / HTTP/1.1\r\n")
        assert until_closed(connection) == b""


def test_a_request_whose_head_came_in_time_may_take_longer(running: Running) -> None:
    """The answer and the body are waited for past the deadline: a stranger who came later is cut off meanwhile."""
    with running.connect(WHOLE[:-1]) as connection, running.connect() as stranger:
        assert running.asked.wait(HANGS)
        assert until_closed(stranger) == b""
        connection.sendall(WHOLE[-1:])
        running.allowed.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
