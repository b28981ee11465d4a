"""HTTP as bytes: what no library would send, and answers to the last byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

PATIENCE = 20.0


@dataclass(frozen=True)
class Raw:
    """An answer: its head with the closing empty line, and its body."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def names(self) -> set[str]:
        """Return the names of its headers."""
        return {line.partition(b":")[0].decode().lower() for line in self.head.split(b"\r\n")[1:] if line}


class Wire:
    """One connection, opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._reader.close()
            self._socket.close()
            self._socket = None

    def ask(self, data: bytes) -> Raw:
        """Send a request and read its one answer."""
        self.write(data)
        return self.read(without_body=data.startswith(b"HEAD "))

    def write(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader: BinaryIO = self._socket.makefile("rb")
        self._socket.sendall(data)

    def read(self, *, without_body: bool = False) -> Raw:
        """Read an answer of declared length."""
        lines = list(iter(self._reader.readline, b"\r\n"))
        head = b"".join(lines) + b"\r\n"
        assert head.startswith(b"HTTP/1.1 "), head
        names = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines[1:]}
        body = b"" if without_body else self._reader.read(int(names.get(b"content-length", 0)))
        if names.get(b"connection") == b"close":
            self.close()
        return Raw(head, body)

    def rest(self) -> bytes:
        """Read what comes until the server closes."""
        return self._reader.read()


@contextmanager
def half_open(port: int, starts: Sequence[bytes]) -> Iterator[list[socket.socket]]:
    """Open a connection for each of these beginnings, write that and no more."""
    lines = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in starts]
    try:
        for line, start in zip(lines, starts, strict=True):
            line.sendall(start)
        yield lines
    finally:
        for line in lines:
            line.close()
