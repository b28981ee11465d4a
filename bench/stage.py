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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = """\
[server]
port = {port}
ops_port = {ops}
public_url = "http://127.0.0.1:{port}"
[store]
url = "sqlite:///{folder}/idsync.db"
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
groups = ["A"]
[[teams]]
alias = "team-b"
groups = ["B"]
"""


@dataclass(frozen=True)
class Bench:
    scim: str
    gateway: str
    token: str
    folder: Path

    def hook(self, name: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        request = urllib.request.Request(f"{self.gateway}/_sandbox/{name}", data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send one SCIM request that has to succeed."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/scim+json"}
        request = urllib.request.Request(self.scim + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def listed(self, wanted: int) -> list[str]:
        """Return the ids of the first users."""
        ids: list[str] = []
        while len(ids) < wanted:
            page = self.ask("GET", f"/Users?startIndex={len(ids) + 1}&count=100&attributes=id").get("Resources")
            if not page:
                break
            ids += [entry["id"] for entry in page]
        return ids

    def departures(self) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "idsync", "-c", str(self.folder / "config.toml"), "departures", "--json"]
        views: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return views


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def staged(*, latency: float = 0.0) -> Iterator[Bench]:
    """Start both processes and wait for the first pass."""
    gateway, port, ops = free_port(), free_port(), free_port()
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory(prefix="idsync-bench-") as name:
        folder = Path(name)
        (folder / "key").write_text("sk-admin-1234")
        (folder / "config.toml").write_text(CONFIG.format(port=port, ops=ops, gateway=gateway, folder=folder))
        config = ["-c", str(folder / "config.toml")]
        command = [*python, "idsync.sandbox", "--port", str(gateway), "--latency", str(latency)]
        with _child(command), _child([*python, "idsync", "--log-level", "error", *config, "serve"]):
            _wait(f"http://127.0.0.1:{port}/readyz")
            made = subprocess.run(
                [*python, "idsync", *config, "token", "new", "bench"], capture_output=True, check=True, text=True
            )
            bench = Bench(
                f"http://127.0.0.1:{port}/scim/v2", f"http://127.0.0.1:{gateway}", made.stdout.strip(), folder
            )
            while len(bench.hook("state")["teams"]) < 2:
                time.sleep(0.05)
            yield bench


@contextlib.contextmanager
def _child(command: list[str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=dict(os.environ))
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=1).close()
            return
        time.sleep(0.05)
    sys.exit(f"{url} did not come up")
