"""The stage: a sandbox gateway in this process, the daemon as a child process on a throw-away store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from idsync.demo.wire import DemoFailed, Wire
from idsync.sandbox.server import Options, Sandbox

T = TypeVar("T")
DEADLINE = 30.0
CONFIG = """\
[server]
port = {port}
ops_port = {ops_port}
public_url = "http://127.0.0.1:{port}"

[store]
url = "sqlite:///{folder}/idsync.db"

[routero]
base_url = "{gateway}"
dialect = "{dialect}"
admin_key_file = "{folder}/admin.key"
replica_urls = {replicas}
cache_time = "2s"

[[scim.sources]]
name = "okta"
[[scim.sources]]
name = "entra"

[policy]
group_loss_delete_after = "1s"       # 10m by default; short, so that the mover can be watched

[[teams]]
alias = "data-science"
groups = ["okta/Routero Data Science", "entra/AI Data Science"]
max_budget = 2000
budget_duration = "1mo"
[[teams]]
alias = "customer-ops"
groups = ["entra/AI Customer Ops"]
max_budget = 500
budget_duration = "1mo"
models = ["smart/balanced"]
[[teams]]
alias = "engineering"
groups = ["okta/Routero Engineering"]
max_budget = 1500
budget_duration = "1mo"
"""


@dataclass
class Stage:
    """Everything a scene needs: the gateway from its admin's side and its users', the daemon, a token a source."""

    sandbox: Sandbox
    gateway: Wire
    folder: Path
    scim_url: str
    ops_url: str
    tokens: dict[str, str]

    def hook(self, name: str, body: Any = None) -> Any:
        return self.gateway.ok("GET" if body is None else "POST", f"/_sandbox/{name}", body)

    def state(self) -> Any:
        return self.hook("state")

    def account(self, email: str) -> dict[str, Any]:
        """Return the gateway's user row of an e-mail.

        Raises:
            DemoFailed: there is none.
        """
        for user in self.state()["users"]:
            if user["user_email"] == email:
                return dict(user)
        msg = f"the gateway has no account for {email}"
        raise DemoFailed(msg)

    def teams_of(self, email: str) -> list[str]:
        rows = self.state()["teams"]
        return sorted(
            team["team_alias"] for team in rows if any(m["user_email"] == email for m in team["members_with_roles"])
        )

    def mint(self, email: str, alias: str, team: str | None = None) -> str:
        """Make a key as the gateway's admin does, and return the secret its owner would keep."""
        body = {"user_id": self.account(email)["user_id"], "key_alias": alias, "team_id": team}
        return str(self.gateway.ok("POST", "/key/generate", {k: v for k, v in body.items() if v})["key"])

    def tried(self, key: str) -> list[int]:
        """Try a key on every replica with a real request; return the statuses in order."""
        return [
            Wire(url, {"Authorization": f"Bearer {key}"}).send("GET", "/v1/models")[0]
            for url in self.sandbox.replica_urls
        ]

    def delete_without_idsync(self, key: str) -> None:
        """Delete a key the way a script would, with the verb of the gateway's dialect."""
        method = "DELETE" if self.sandbox.options.dialect == "routero" else "POST"
        self.gateway.ok(method, "/key/delete", {"keys": [key]})

    def idsync(self, *words: str) -> str:
        """Run the real command line against the daemon's configuration."""
        command = [sys.executable, "-m", "idsync", "-c", str(self.folder / "config.toml"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        if done.returncode:
            msg = f"idsync {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}"
            raise DemoFailed(msg)
        return done.stdout.strip()


def until(what: str, look: Callable[[], T | None], seconds: float = DEADLINE) -> T:
    """Look again and again until there is something, and return it.

    Raises:
        DemoFailed: it did not come in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.01)
    msg = f"waited {seconds:.0f} s in vain for {what}"
    raise DemoFailed(msg)


@contextlib.contextmanager
def staged(
    folder: Path, *, dialect: str, fence: bool, ports: tuple[int, int, int] = (0, 0, 0), cache_ttl: float = 60.0
) -> Iterator[Stage]:
    """Start gateway and daemon, wait until the daemon has set the teams up, and stop both in the end.

    `ports` are those wished for: SCIM, operations, gateway; a taken one, or 0, becomes any free one. `cache_ttl` is for
    how many seconds the gateway honours a deleted key; `routero.cache_time` of the daemon stays 2 s.
    """
    port, ops_port, gateway_port = map(_free_port, ports)
    options = Options(dialect=dialect, replicas=3, cache_ttl=cache_ttl, fence=fence, port=gateway_port)
    with Sandbox(options) as sandbox:
        _write(folder, "admin.key", options.admin_key)
        where = {"gateway": sandbox.url, "replicas": json.dumps(sandbox.replica_urls)}
        text = CONFIG.format(folder=folder, dialect=dialect, port=port, ops_port=ops_port, **where)
        _write(folder, "config.toml", text)
        headers = {"Authorization": f"Bearer {options.admin_key}", "Content-Type": "application/json"}
        stage = Stage(sandbox, Wire(sandbox.url, headers), folder, "", "", {})
        with daemon(stage):
            stage.tokens = {source: stage.idsync("token", "new", source) for source in ("okta", "entra")}
            until("the teams", lambda: len(stage.state()["teams"]) == 3)
            yield stage


def _free_port(wished: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wished))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


@contextlib.contextmanager
def daemon(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """Run `idsync serve` as a child; its log goes to a file in the folder."""
    command = [sys.executable, "-m", "idsync", "-c", str(stage.folder / "config.toml"), "--log-format", "json", "serve"]
    log = stage.folder / "daemon.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink, env=_environment()
        )
        try:
            line = until("the daemon", lambda: _ready_line(log, child))
            words = line.split()
            stage.scim_url, stage.ops_url = words[4], words[-1]
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(25)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _environment() -> dict[str, str]:
    """The demo's daemon reads its own file alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IDSYNC_")}


def _ready_line(log: Path, child: subprocess.Popen[bytes]) -> str | None:
    text = log.read_text("utf-8", "replace")
    if child.poll() is not None:
        msg = f"the daemon ended with {child.returncode}:\n{text}"
        raise DemoFailed(msg)
    return next((line for line in text.splitlines() if line.startswith("idsync serves SCIM at ")), None)
