"""A leaver who could have known a shared key: how soon the old one is dead, and what services that use it notice."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.leavers import join
from bench.report import Report
from bench.stage import SETTLES, Bench, active

SHARED = """\
on_member_departure = "rotate"
[[teams.keys]]
alias = "shared"
sink = "files"
[[sinks]]
name = "files"
kind = "file"
path = "{folder}/{{alias}}"
"""
"""Goes on with the second team of the configuration."""
ASK = b'{"model": "gpt-5-mini", "messages": []}'


@dataclass
class Service(threading.Thread):
    """Calls a model again and again. `careful`: it reads the key anew for every call, else only after a refusal."""

    gateway: str
    file: Path
    careful: bool
    refused: list[float] = field(default_factory=list)
    """How long each refusal lasted, in seconds: from the answer to the next good one."""
    calls: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._enough = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.gateway).netloc, timeout=30)
        secret, since = self.file.read_text(), None
        while not self._enough.is_set():
            if self.careful:
                secret = self.file.read_text()
            status = self._call(connection, secret)
            if status == 200 and since is not None:
                self.refused.append(time.monotonic() - since)
                since = None
            elif status != 200:
                since = since or time.monotonic()
                secret = self.file.read_text()
        connection.close()

    def _call(self, connection: http.client.HTTPConnection, secret: str) -> int:
        self.calls += 1
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", ASK, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def end(self) -> None:
        self._enough.set()
        self.join()


def rotation(bench: Bench, report: Report, count: int) -> None:
    """People leave one after the other while two services use the shared key of their team."""
    part, file = "a leaver who knows a shared key", bench.folder / "shared"
    ids = join(bench, count)
    _until(file.exists, "the shared key is made")
    services = [Service(bench.gateway, file, careful) for careful in (True, False)]
    for service in services:
        service.start()
    delivered, dead = [], []
    for done, one in enumerate(ids, 1):
        before, since = file.read_text(), bench.hook("log")["entries"][-1]["n"]
        pushed = time.time()
        bench.scim.ask("PATCH", f"/Users/{one}", active(False))
        _until(lambda before=before: file.read_text() != before, "the new key is delivered")  # type: ignore[misc]
        delivered.append(file.stat().st_mtime - pushed)
        _until(lambda done=done: _ended(bench) == done, "the old key is gone")  # type: ignore[misc]
        calls = bench.hook(f"log?since={since}")["entries"]
        made = next(call["n"] for call in calls if call["path"] == "/key/generate")
        dead.append(next(call["at"] for call in calls if call["path"] == "/key/block" and call["n"] > made) - pushed)
    for service in services:
        service.end()
    print(f"{count} leavers, one after the other; the team's shared key is rotated for each, into a file; same gateway")
    report.times(part, "request received -> new key delivered", delivered)
    report.times(part, "request received -> old key blocked", dead)
    for service, what in zip(
        services, ("reads the key for every call", "keeps the key until it is refused"), strict=True
    ):
        report.times(part, f"refused: a service that {what}", service.refused or [0.0])
        print(f"    {len(service.refused)} of {service.calls:,} calls were refused once, in {count} rotations")
    print()


def _ended(bench: Bench) -> int:
    with bench.store() as db:
        row = db.one("SELECT COUNT(*) AS n FROM audit WHERE action = 'key.ended'")
        return int(row["n"]) if row is not None else 0


def _until(met: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SETTLES
    while not met():
        if time.monotonic() > end:
            raise SystemExit(f"not in time: {what}")
        time.sleep(0.002)
