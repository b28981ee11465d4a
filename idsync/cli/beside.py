"""The daemon beside the command line: whether one runs, and whether it goes by the configuration that was read here."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from idsync.errors import OtherConfiguration

if TYPE_CHECKING:
    from idsync.config import Config

State = Literal["runs", "does not run", "does not answer"]
PATIENCE = 5.0
"""Seconds that a daemon may take to say which configuration it goes by."""
TO_DO: Mapping[State, str] = {
    "runs": "",
    "does not run": "nothing is received, polled or tried again meanwhile: idsync serve",
    "does not answer": "look at its log; run this as the user the daemon runs as",
}
NAMED = 5
"""So many of the keys that differ are named."""


class Connection(http.client.HTTPConnection):
    """HTTP over the socket of whoever holds a store; `seconds` None: for as long as it takes."""

    def __init__(self, path: Path, seconds: float | None = None) -> None:
        super().__init__("localhost")
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


def socket_of(config: Config) -> Path:
    """Return where the daemon that holds the store of a configuration listens.

    Raises:
        StoreError: `store.url` is of another kind.
    """
    from idsync.store.sqlite import path_of
    from idsync.web.paths import socket_path

    return socket_path(path_of(config.store.url))


@dataclass(frozen=True)
class Beside:
    """`differs` names the keys in which its configuration is another one; None: it has not said."""

    state: State
    differs: tuple[str, ...] | None = None

    def view(self) -> dict[str, Any]:
        return {"state": self.state, "differs": None if self.differs is None else list(self.differs)}


def beside(config: Config) -> Beside:
    """Ask the daemon that holds the store by which configuration it goes.

    Raises:
        StoreError: `store.url` is of another kind.
    """
    from idsync.store.address import is_shared

    if is_shared(config.store.url):
        return _sharing(config)
    connection = Connection(socket_of(config), PATIENCE)
    try:
        connection.connect()
    except (FileNotFoundError, ConnectionRefusedError):
        return Beside("does not run")
    except OSError:
        return Beside("does not answer")
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/v1/configuration")
            answer = connection.getresponse()
            told = json.loads(answer.read()) if answer.status == 200 else None
        except (http.client.HTTPException, OSError, ValueError):
            return Beside("does not answer")
    return Beside("runs", None if told is None else differing(config, told))


def _sharing(config: Config) -> Beside:
    """Look who shares the store, and by which configuration they go."""
    from idsync.app.parts import store_password
    from idsync.config import unlike_served
    from idsync.errors import StoreError
    from idsync.store import facts, replicas
    from idsync.store.opening import read_only

    try:
        with read_only(config.store.url, store_password(config)) as db:
            there = replicas.present(db, replicas.time_of(db, 0.0))
            told = facts.get(db, facts.SERVED)
    except StoreError:
        return Beside("does not answer")
    if all(one.role == replicas.COMMAND for one in there):
        return Beside("does not run")
    return Beside("runs", tuple(unlike_served(config, told)) if told is not None else None)


def differing(config: Config, told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys in which a daemon's configuration, as far as its answer tells of it, is another one."""
    from idsync.config import unlike

    return tuple(unlike(config, told["configuration"])) if told.get("configuration") is not None else ()


def file_read() -> str:
    """Name the configuration that this command has read."""
    context = click.get_current_context(silent=True)
    file = context.obj.get("file") if context is not None and context.obj else None
    return str(file) if file is not None else "the environment (there is no file)"


def another(differs: tuple[str, ...]) -> str:
    """Say that the daemon goes by another configuration than the file, and in what it differs."""
    more = f" and {len(differs) - NAMED} more" if len(differs) > NAMED else ""
    names = ", ".join(differs[:NAMED]) + more
    return f"the running daemon goes by another configuration than {file_read()} (they differ in {names})"


def remedy(differs: tuple[str, ...]) -> str:
    """Say how the daemon comes to go by the file."""
    from idsync.config import after_restart

    late = sorted({path.partition(".")[0] for path in after_restart(list(differs))})
    if not late:
        return "let it take the file over: systemctl reload idsync, or kill -HUP"
    return f"restart it (systemctl restart idsync): {', '.join(late)} would not be taken over by a reload"


def refusal(differs: tuple[str, ...]) -> OtherConfiguration:
    """Return the error of a command that would do something else by the file that was read here."""
    own = "or give the file it has read with -c"
    return OtherConfiguration(f"{another(differs)}; nothing was done: {remedy(differs)}; {own}")
