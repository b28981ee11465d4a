"""A folder with a configuration, an admin key and a store, and the command line run in it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from support import processes
from support.processes import usual_environment
from support.stores import url_of

from idsync import config as configuration
from idsync.app import rules_of
from idsync.clock import SystemClock
from idsync.control import Control
from idsync.intake import Intake
from idsync.model import GroupFacts, Origin, User, UserFacts
from idsync.store.db import Db
from idsync.store.opening import store_of

T = TypeVar("T")
ADMIN_KEY = "sk-admin-1234"
CONFIG = """
[store]
url = "{url}"
[routero]
base_url = "{gateway}"
admin_key_file = "{key}"
dialect = "litellm"
timeout = "2s"
[[scim.sources]]
name = "okta"
[[teams]]
alias = "data"
groups = ["Data"]
[guard]
max_push_departures = 1
"""


@dataclass
class Site:
    """`gateway` is its address; nobody answers there unless a sandbox does."""

    folder: Path
    gateway: str

    def __post_init__(self) -> None:
        key = self.folder / "admin-key"
        key.write_text(ADMIN_KEY)
        self.config.write_text(CONFIG.format(url=self.url, gateway=self.gateway, key=key))

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def store(self) -> Path:
        return self.folder / "idsync.db"

    @property
    def url(self) -> str:
        return url_of(self.store)

    def run(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `idsync -c config.toml ...`; `environ` comes on top of an environment without IDSYNC_*."""
        return run("-c", str(self.config), *args, cwd=self.folder, environ=environ)

    def json(self, *args: str) -> Any:
        """Run a command that must succeed and return what it printed."""
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def token(self, *args: str) -> str:
        done = self.run("token", "new", *(args or ("okta",)))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def new_tokens(self, *sources: str) -> list[dict[str, Any]]:
        return self.fill(
            lambda db, intake, control: [
                control.new_token(db, source, kind="source", scope="scim", by="op") for source in sources
            ]
        )

    def fill(self, work: Callable[[Db, Intake, Control], T]) -> T:
        """Write into the store as a daemon of this configuration would."""
        loaded = configuration.load(str(self.config), {}).config
        intake = Intake(rules_of(loaded), SystemClock())
        control = Control(intake, loaded, SystemClock())
        store = store_of(self.url)
        store.open()
        try:
            store.write(control.adopt_configuration)
            return store.write(lambda db: work(db, intake, control))
        finally:
            store.close()

    def two_leavers(self, *names: str) -> None:
        """Let two people in and out again; the guard of one holds the second one's deletion."""
        logins = names or ("ada@example.com", "bob@example.com")

        def work(db: Db, intake: Intake, _: Control) -> None:
            origin = Origin("okta", "token-1", SystemClock().now())
            users = [create(db, intake, name, origin) for name in logins]
            intake.create_group(db, GroupFacts("Data", None, {}), [user.id for user in users], origin)
            for user in users:
                intake.delete_user(db, user, origin)

        self.fill(work)


def create(db: Db, intake: Intake, name: str, origin: Origin) -> User:
    return intake.create_user(db, UserFacts(name, None, True, name, None, {"userName": name}), origin)


def run(
    *args: str, cwd: Path, python: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; with options of the interpreter (`python`) it gets one of its own."""
    inherited = usual_environment()
    if not python:
        return processes.run(*args, folder=cwd, environ={**inherited, **(environ or {})})
    return subprocess.run(
        [sys.executable, *python, "-m", "idsync", *args],
        cwd=cwd,
        env={**inherited, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def free_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
