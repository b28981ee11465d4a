"""The endpoint in a process of its own: its memory can be measured, and one that hangs can be ended."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.endpoint import Client, Got, serving
from support.processes import started

from idsync import logs
from idsync.web.auth import ScimSource

TOLERANT, STRICT = "okta", "exact"
HANG = 60.0
"""Seconds after which a request that was not answered counts as one that hangs."""


@dataclass
class Wire(Client):
    """A client that keeps its connection, as identity providers do."""

    _open: http.client.HTTPConnection | None = field(default=None, repr=False)

    def send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str | None] | None = None) -> Got:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        wanted: dict[str, str | None] = {"Authorization": f"Bearer {self.token}"}
        if raw is not None:
            wanted["Content-Type"] = "application/scim+json"
        wanted |= headers or {}
        sent = {name: value for name, value in wanted.items() if value is not None}
        try:
            return self._exchange(method, path, raw, sent)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()  # it was closed while nobody used it
            return self._exchange(method, path, raw, sent)

    def _exchange(self, method: str, path: str, raw: bytes | None, headers: Mapping[str, str]) -> Got:
        if self._open is None:
            self._open = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        try:
            self._open.request(method, self.prefix + path, raw, headers)
            answer = self._open.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, found, answer.read())
        except TimeoutError:
            self.close()
            msg = f"{method} {path[:200]} hangs; its body begins with {raw[:400] if raw else b''!r}"
            raise AssertionError(msg) from None

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class Endpoint:
    """A running endpoint with a tolerant and a strict source; it logs from level warning on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._read = 0
        self._clients: list[Wire] = []

    def __enter__(self) -> Self:
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environ = {**os.environ, "PYTHONPATH": path}
        theirs, self._until = os.pipe()
        told, tells = os.pipe()
        with self._log.open("wb") as log:
            self._process = started(
                str(self._folder),
                module="fuzz.server",
                folder=Path.cwd(),
                environ=environ,
                stdin=theirs,
                stdout=tells,
                stderr=log.fileno(),
            )
        os.close(theirs)
        os.close(tells)
        with open(told, "rb") as said:  # noqa: PTH123 - it is no path
            line = said.readline()
        assert line, self.said()
        self.port = int(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self._process.kill()
        self._process.wait()
        os.close(self._until)

    def client(self, source: str) -> Wire:
        self._clients.append(Wire(self.port, f"secret-of-{source}"))
        return self._clients[-1]

    def said(self) -> str:
        """Return what it logged since it was asked last."""
        before, self._read = self._read, self._log.stat().st_size
        with self._log.open("rb") as log:
            log.seek(before)
            return log.read(self._read - before).decode("utf-8", "replace")

    def memory(self) -> int:
        """Return the bytes of the process that are in memory."""
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, check=True)
        return int(shown.stdout) * 1024


def main(folder: Path) -> None:
    """Serve until the one who started this goes away."""
    logs.configure("warning", "json")
    with serving(folder, ScimSource(TOLERANT), ScimSource(STRICT, strict=True)) as served:
        sys.stdout.write(f"{served.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
