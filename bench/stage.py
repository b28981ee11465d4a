"""The machines under test: the sandbox and the daemon, each a process of its own, on a throw-away store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load import Loader, Stream
from idsync.store import jobs, ledger
from idsync.store.db import Db
from idsync.store.ledger import Departure
from idsync.store.opening import read_only

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
CLIENTS = 16
SETTLES = 300.0
"""Seconds the engine may need for what it was given."""

CONFIG = """\
[server]
port = {port}
ops_port = {ops}
public_url = "http://127.0.0.1:{port}"
[store]
url = "{store}"
[routero]
base_url = "http://127.0.0.1:{gateway}"
dialect = "litellm"
admin_key_file = "{folder}/key"
cache_time = "3600s"
[guard]
max_push_departures = 1000000
[[scim.sources]]
name = "bench"
[[teams]]
alias = "team-a"
groups = ["A", "New"]
[[teams]]
alias = "team-b"
groups = ["B", "New"]
[[roles]]
role = "internal_viewer"
groups = ["New"]
"""


# -- what is sent -----------------------------------------------------------------------------------------------------


def person(number: int, **more: Any) -> dict[str, Any]:
    """Return the user of a number as Okta would push it."""
    name = f"u{number}@example.com"
    return {
        "schemas": [USER],
        "userName": name,
        "externalId": f"00u{number:08}",
        "name": {"givenName": "U", "familyName": str(number)},
        "emails": [{"value": name, "type": "work", "primary": True}],
        "active": True,
        **more,
    }


def team(name: str, members: Sequence[str]) -> dict[str, Any]:
    return {"schemas": [GROUP], "displayName": name, "members": [{"value": one} for one in members]}


def patch(op: str, *, path: str | None = None, value: Any = None) -> dict[str, Any]:
    operation = {"op": op, "path": path, "value": value}
    return {"schemas": [PATCH], "Operations": [{name: one for name, one in operation.items() if one is not None}]}


def active(value: bool) -> dict[str, Any]:
    return patch("replace", value={"active": value})


# -- who is asked -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A SCIM server under test: where it answers, and the process that does."""

    base: str
    token: str
    pid: int

    @property
    def port(self) -> int:
        return urlsplit(self.base).port or 80

    def encode(self, method: str, path: str, body: Any = None) -> bytes:
        """Return a whole HTTP/1.1 request."""
        raw = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {urlsplit(self.base).path}{path} HTTP/1.1\r\nHost: {urlsplit(self.base).netloc}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/scim+json\r\n"
            f"Content-Length: {len(raw)}\r\n\r\n"
        )
        return head.encode() + raw

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request that has to succeed."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/scim+json"}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def ids(self, numbers: Sequence[int]) -> list[str]:
        """Return the ids of the users of these numbers, in their order."""
        found: dict[str, str] = {}
        start, total = 1, 1
        while start <= total:
            page = self.ask("GET", f"/Users?startIndex={start}&count=200&attributes=userName")
            found |= {entry["userName"]: entry["id"] for entry in page["Resources"]}
            start, total = start + page["itemsPerPage"], page["totalResults"]
        return [found[f"u{number}@example.com"] for number in numbers]


@dataclass(frozen=True)
class Bench:
    """The daemon, the sandbox beside it, and the load generator."""

    scim: Server
    others: tuple[Server, ...]
    url: str
    gateway: str
    gateway_pid: int
    folder: Path
    loader: Loader

    @property
    def servers(self) -> tuple[Server, ...]:
        """Every replica."""
        return (self.scim, *self.others)

    def hook(self, name: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        request = urllib.request.Request(f"{self.gateway}/_sandbox/{name}", data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def create(self, numbers: Sequence[int]) -> list[str]:
        """Create the users of these numbers and return their ids."""
        requests = [self.scim.encode("POST", "/Users", person(number)) for number in numbers]
        done = self.loader.run(Stream(self.scim.port, requests, CLIENTS))[0]
        assert set(done.statuses) == {201}, done.statuses
        return self.scim.ids(numbers)

    @contextlib.contextmanager
    def store(self) -> Iterator[Db]:
        """Read the store beside the daemon: cheaper than asking it while it is being measured."""
        with read_only(self.url) as db:
            yield db

    @contextlib.contextmanager
    def gateway_stopped(self) -> Iterator[None]:
        """Let the gateway stand still: it takes connections and answers nothing."""
        os.kill(self.gateway_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.gateway_pid, signal.SIGCONT)

    def departures(self, wanted: int) -> list[Departure]:
        """Wait until so many departures are verified, and return them."""
        until = time.monotonic() + SETTLES
        with self.store() as db:
            while time.monotonic() < until:
                row = db.one("SELECT COUNT(*) AS n FROM departures WHERE verified_at IS NOT NULL")
                if row is not None and row["n"] >= wanted:
                    return ledger.departures(db, limit=wanted)
                time.sleep(0.1)
        sys.exit(f"{wanted} leavers were not verified in time")

    def settle(self) -> None:
        """Wait until the engine has nothing to do."""
        until = time.monotonic() + SETTLES
        with self.store() as db:
            while time.monotonic() < until:
                if all(job.waiting and not job.leased for job in jobs.all_jobs(db)):
                    return
                time.sleep(0.1)
        sys.exit("the engine did not come to rest")


@contextlib.contextmanager
def staged(
    loader: Loader, *, latency: float = 0.0, more: str = "", store: str = "", replicas: int = 1
) -> Iterator[Bench]:
    """Start the processes and wait for the first pass; `more` goes on with the configuration in team-b.

    `store` is the address of an empty database, which `replicas` share; without it there is a file.
    """
    gateway, ports = free_port(), [free_port() for _ in range(replicas)]
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory(prefix="idsync-bench-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        url = store or f"sqlite:///{folder}/idsync.db"
        (folder / "key").write_text("sk-admin-1234")
        command = [*python, "idsync.sandbox", "--port", str(gateway), "--latency", str(latency)]
        sandbox = running.enter_context(child(command))
        daemons = []
        for port in ports:
            text = (CONFIG + more).format(port=port, ops=free_port(), gateway=gateway, folder=folder, store=url)
            config = folder / f"config-{port}.toml"
            config.write_text(text)
            serve = [*python, "idsync", "--log-level", "error", "-c", str(config), "serve"]
            daemons.append(running.enter_context(child(serve)))
            _wait(f"http://127.0.0.1:{port}/readyz")
        made = subprocess.run(
            [*python, "idsync", "-c", str(config), "token", "new", "bench"], capture_output=True, check=True, text=True
        )
        found = [
            Server(f"http://127.0.0.1:{port}/scim/v2", made.stdout.strip(), daemon.pid)
            for port, daemon in zip(ports, daemons, strict=True)
        ]
        address = f"http://127.0.0.1:{gateway}"
        bench = Bench(found[0], tuple(found[1:]), url, address, sandbox.pid, folder, loader)
        while len(bench.hook("state")["teams"]) < 2:
            time.sleep(0.05)
        yield bench


# -- processes --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process; its standard output can be read."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=1).close()
            return
        time.sleep(0.05)
    sys.exit(f"{url} did not come up")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, in user and system mode, all threads (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew, where the kernel allows it; else it is the peak since the start."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory(pid: int) -> tuple[float, float]:
    """Return VmRSS and VmHWM of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(sizes["VmRSS"].split()[0]) / 1024, int(sizes["VmHWM"].split()[0]) / 1024
