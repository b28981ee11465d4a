"""Polled sources: a pass with nothing to do over a large company, a quiet round, and from an act to the last dead key."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Report
from bench.stage import child, free_port
from idsync.sandbox.graph.service import CLIENT, SECRET, TENANT
from idsync.sandbox.okta.service import TOKEN

CONFIG = """\
[store]
url = "sqlite:///{folder}/idsync.db"
[routero]
base_url = "{gateway}"
dialect = "litellm"
admin_key_file = "{folder}/key"
cache_time = "3600s"
[guard]
max_departures = 1000000
max_fraction = 1.0
max_team_loss = 1.0
"""
OKTA = '[[sources.okta]]\nname = "poll"\norg_url = "{gateway}/okta"\napi_token_file = "{folder}/token"\n'
GRAPH = (
    '[[sources.graph]]\nname = "poll"\ntenant_id = "{tenant}"\nclient_id = "{client}"\n'
    'client_secret_file = "{folder}/secret"\nauthority = "{gateway}/entra"\ngraph_url = "{gateway}/graph"\n'
)
PAGES = {"okta": 200, "graph": 999}
QUIET = 4
"""Most requests a round may cost in which nothing has changed."""


@dataclass(frozen=True)
class Polled:
    """A sandbox and a process that polls it."""

    kind: str
    gateway: str
    worker: subprocess.Popen[str]

    def hook(self, name: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.gateway}/_sandbox/{name}", data, timeout=600) as answer:
            return json.loads(answer.read())

    def do(self, order: str) -> dict[str, Any]:
        """Let the process poll, and return what it measured."""
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        self.worker.stdin.write(f"{order}\n")
        self.worker.stdin.flush()
        measured: dict[str, Any] = json.loads(self.worker.stdout.readline())
        return measured

    def requests(self) -> int:
        """Return how many requests the directory was sent since the last time, tokens aside."""
        entries = self.hook(f"{self.kind}/log")["entries"]
        request = urllib.request.Request(f"{self.gateway}/_sandbox/{self.kind}/log", method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()
        return sum("token" not in entry["path"] and entry.get("caller") != "batch" for entry in entries)


def polls(report: Report) -> None:
    size = (5_000, 50, 15_000) if report.quick else (100_000, 1_000, 300_000)
    for kind in ("okta", "graph"):
        with staged(kind, teams=size[1]) as bench:
            _large(bench, report, *size)
        with staged(kind, teams=1) as bench:
            _leavers(bench, report, 20 if report.quick else 100)


def _large(bench: Polled, report: Report, users: int, groups: int, memberships: int) -> None:
    part = f"{bench.kind}: a pass over {users:,} users, {groups:,} groups, {memberships:,} memberships"
    print(part)
    bench.hook(f"{bench.kind}/seed", {"many": {"users": users, "groups": groups, "memberships": memberships}})
    bench.hook(f"{bench.kind}/clock", {"advance": 7200})  # nothing of it is of today
    first = bench.do("full")
    report.single(part, "the first, which takes everybody in", first["seconds"], " s")
    bench.requests()
    full = bench.do("full")
    asked = bench.requests()
    least = groups * math.ceil(memberships / groups / PAGES[bench.kind])
    report.single(part, "with nothing to do", full["seconds"], " s", budget=30)
    report.single(part, "CPU of it", full["cpu"], " s")
    report.single(part, "peak", full["peak"], " MiB", budget=500)
    report.single(part, f"requests (pages of members alone: {least})", asked, "")
    bench.do("recent")
    bench.requests()
    quiet = bench.do("recent")
    report.single(part, "a quiet round", quiet["seconds"], " s")
    report.single(part, "requests of a quiet round", bench.requests(), "", budget=QUIET)
    print()


def _leavers(bench: Polled, report: Report, count: int) -> None:
    """People with three keys each leave, one after the other."""
    people = [f"u{number}@example.com" for number in range(2 * count)]  # half of them stay
    login = "login" if bench.kind == "okta" else "userPrincipalName"
    more = {"email": "email"} if bench.kind == "okta" else {"email": "mail"}
    users = [{login: one, more["email"]: one} for one in people]
    named = "name" if bench.kind == "okta" else "displayName"
    bench.hook(f"{bench.kind}/seed", {"users": users, "groups": [{named: "team-0001", "members": people}]})
    bench.do("teams")
    bench.do("full")
    bench.do("settle")
    shown = [user for user in bench.hook("state")["users"] if user["user_email"]]
    bench.hook("seed", {"keys": [{"user_id": user["user_id"]} for user in shown for _ in range(3)]})
    act = "deactivate" if bench.kind == "okta" else "disable"
    for order, what in (
        (("events", "System Log"), ("recent", "changes")) if bench.kind == "okta" else (("recent", "delta"),)
    ):
        took = []
        for one in people[: count // 2] if order == "events" else people[-(count // 2) :]:
            bench.hook(f"{bench.kind}/act", {"do": act, "user": one})
            took.append(bench.do(order))
        part = f"{bench.kind}: somebody leaves, seen by the {what}; the wait for the poll comes before it"
        print(part)
        report.times(part, "poll begins -> last key blocked", [one["blocked"] for one in took])
        report.times(part, "poll begins -> verified", [one["verified"] for one in took])
        print()


@contextlib.contextmanager
def staged(kind: str, *, teams: int) -> Iterator[Polled]:
    """Start a sandbox and the process that polls it."""
    port = free_port()
    gateway = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="idsync-bench-") as name:
        folder = Path(name)
        for file, secret in (("key", "sk-admin-1234"), ("token", TOKEN), ("secret", SECRET)):
            (folder / file).write_text(secret)
        table = OKTA if kind == "okta" else GRAPH
        named = "".join(f'[[teams]]\nalias = "team-{n:04d}"\ngroups = ["team-{n:04d}"]\n' for n in range(1, teams + 1))
        text = CONFIG + table + named
        known = {"folder": folder, "gateway": gateway, "tenant": TENANT, "client": CLIENT}
        (folder / "config.toml").write_text(text.format(**known))
        with child([sys.executable, "-m", "idsync", "sandbox", "--port", str(port)]):
            _wait(gateway)
            command = [sys.executable, "-m", "bench.polled", str(folder / "config.toml")]
            pipe = subprocess.PIPE
            with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as worker:
                yield Polled(kind, gateway, worker)
                assert worker.stdin is not None
                worker.stdin.close()


def _wait(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(f"{url}/health/liveliness", timeout=1).close()
            except urllib.error.HTTPError:
                return
            return
        time.sleep(0.05)
    sys.exit(f"{url} did not come up")
