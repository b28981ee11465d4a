"""The ground a drill is held on: a sandbox of its own, a configuration, the daemon; and what must be there afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from support.daemon import Daemon, Done, idsync
from support.editor import tables
from support.gateway import Gateway
from support.processes import usual_environment
from support.settings import store_url, write_settings
from support.stores import SHARED
from support.waiting import free_port, until

from idsync.drill.drills import PLACE
from idsync.sandbox.server import Options, Sandbox
from idsync.store import canary, journal, replicas
from idsync.store.opening import read_only

KEPT = ("pass:", "verb:", "gateway:", "drill:last", "source_success:okta", "configuration:rules:")
"""Facts that a drill may leave: what it has measured, and what has nothing to do with it."""
WORDS = re.compile(rb"[A-Za-z0-9_\-]{16,}")
KEYS = re.compile(rb"sk-[A-Za-z0-9_\-]{6,}")
Row = dict[str, Any]


def _takes_an_interrupt() -> None:
    """Undo what a shell does to what it begins in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Ground:
    """`settings` is the configuration's file, `gateway` what the sandbox says of itself."""

    folder: Path
    sandbox: Sandbox
    dialect: str
    changed: Row = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.sandbox)
        self.configure(**self.changed)
        self.daemon = Daemon(self.settings)

    def configure(self, **changed: Any) -> None:
        routero = {"dialect": self.dialect, "replica_urls": self.sandbox.replica_urls, "timeout": "2s"}
        routero |= changed.pop("routero", {})
        port = (
            {"port": free_port()} if SHARED else {}
        )  # a command looks for the replica beside it where it is configured
        changed["server"] = {**port, **changed.get("server", {})}
        self.settings = write_settings(self.folder, self.sandbox.url, routero=routero, **changed)

    @property
    def token_file(self) -> Path:
        """Return where the token of the configured source stands."""
        return self.folder / "source.token"

    # -- doing ------------------------------------------------------------------------------------------------------

    def run(self, *words: str) -> Done:
        return idsync(self.settings, *words)

    def drill(self, *words: str, timeout: float = 20) -> Done:
        return self.run("drill", "--json", "--timeout", str(timeout), *words)

    @contextmanager
    def drilling(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A drill that goes on meanwhile."""
        line = [sys.executable, "-m", "idsync", "-c", str(self.settings), "drill", "--timeout", "20", *words]
        pipe, environ = subprocess.PIPE, usual_environment()
        with subprocess.Popen(
            line, stdout=pipe, stderr=pipe, text=True, env=environ, preexec_fn=_takes_an_interrupt
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def kill_who_drills(self, command: subprocess.Popen[str]) -> None:
        """Kill the process that makes the canary: the daemon, or on a shared store the command itself."""
        if SHARED:
            command.kill()
        else:
            self.daemon.kill()

    def go_on(self) -> None:
        """Start the daemon anew: it looks at once for what a drill has left, where no living process holds one."""
        if SHARED:
            until(self._is_nobodys, "the drill's place is free again")
            self.daemon.kill()
        self.daemon.start()

    def _is_nobodys(self) -> bool:
        with read_only(store_url(self.settings)) as db:
            row = db.one("SELECT until FROM leader WHERE place = :place", place=PLACE)
        return row is None or row["until"] < time.time()

    # -- looking ----------------------------------------------------------------------------------------------------

    def state(self) -> Row:
        """Return everything that must be as it was: every row of the store but the trail's, and the gateway's objects."""
        objects = self.gateway.state()
        kinds = ("users", "teams", "keys", "invitations")
        return {f"gateway's {kind}": sorted(map(_text, objects[kind])) for kind in kinds} | self._rows()

    def _rows(self) -> Row:
        with read_only(store_url(self.settings)) as db:
            rows = tables(db)
            facts = [row["name"] for row in db.all("SELECT name FROM facts ORDER BY name")]
            rows["tokens"] = [row["id"] for row in db.all("SELECT id FROM tokens WHERE revoked_at IS NULL ORDER BY id")]
        return rows | {"facts": [name for name in facts if not name.startswith(KEPT)]}

    def is_clear(self) -> bool:
        """Tell whether no canary is written down any more."""
        with read_only(store_url(self.settings)) as db:
            return not canary.every(db)

    def audit(self) -> list[str]:
        """Return what is in the trail, as `actor action`."""
        with read_only(store_url(self.settings)) as db:
            until(lambda: journal.unlinked(db) == 0, "everything is linked")
            return [f"{entry.actor} {entry.action}" for entry in journal.events(db)]

    def metrics(self) -> dict[str, float]:
        """Return the series without labels, and the sums of those with."""
        with urllib.request.urlopen(f"{self.daemon.operations}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        found: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def events(self, name: str, *by_hand: Done) -> list[Row]:
        """Return what the daemon has logged, and what drills by hand did, which on a database go on in their command."""
        lines = [line for done in by_hand for line in done.err.splitlines() if line.startswith("{")]
        told = [*self.daemon.events(), *map(json.loads, lines)]
        return [event for event in told if event["event"] == name]

    def replicas(self) -> int:
        """Count the daemons that a shared store takes for alive."""
        with read_only(store_url(self.settings)) as db:
            now = replicas.time_of(db, time.time())
            return sum(one.role != replicas.COMMAND for one in replicas.present(db, now)) if SHARED else 0

    def assert_discreet(self, *printed: str) -> None:
        """No key of a drill stands in what was printed, in the log, in the store's files or in the trail.

        Looked for twice: by the form of a key, and by the digest the gateway knows each key by.
        """
        files = [path.read_bytes() for path in self.folder.glob("idsync.db*") if path.is_file()]
        told = [self.daemon.said().encode(), *map(str.encode, printed)]
        digests = {row["token"] for row in self.gateway.state()["archived_keys"]}
        for text in (*files, *told):
            assert KEYS.findall(text) == []
            assert not digests & {hashlib.sha256(word).hexdigest() for word in set(WORDS.findall(text))}


def _text(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


@contextmanager
def ground(folder: Path, changed: Row | None = None, **options: Any) -> Iterator[Ground]:
    """Open a sandbox with three replicas, and the daemon on it once its first pass is done."""
    chosen = Options(**{"cache_ttl": 0.5, **options})
    with Sandbox(chosen) as sandbox:
        made = Ground(folder, sandbox, chosen.dialect, changed or {})
        with made.daemon:
            until(lambda: made.events("pass.done"), "the pass a daemon begins with")
            yield made
