"""The real thing: `idsync serve` in a process of its own on free loopback ports, and the command line beside it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from idsync.store.address import is_shared
from support.directory import ScimDirectory
from support.processes import OWN_INTERPRETERS, Process, run, started, usual_environment
from support.settings import ADMIN_KEY, TOKEN, store_url
from support.waiting import until

Running = Process | subprocess.Popen[bytes]
READY = re.compile(r"idsync .* at (\S+) and operations at (\S+)")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def idsync(settings: Path, *words: str) -> Done:
    """Run a command to its end."""
    done = run("-c", str(settings), *words, folder=settings.parent, environ=usual_environment())
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def beside(settings: Path) -> Iterator[tuple[int, ...]]:
    """Run a second replica where the store is a database; its SCIM port, or nothing where the store is a file."""
    if not is_shared(store_url(settings)):
        yield ()
        return
    folder = settings.parent / "replica"
    folder.mkdir()
    with Daemon(Path(shutil.copy(settings, folder))) as daemon:
        yield (urlsplit(daemon.scim).port or 0,)
        daemon.assert_discreet()


class Daemon:
    """`idsync serve`, started and ended as often as a test likes; what it said on stderr is kept over all lives."""

    def __init__(
        self, settings: Path, *, fresh: bool = OWN_INTERPRETERS, words: Sequence[str] = (), **environ: str
    ) -> None:
        """`words` follow `serve`; `environ` is laid over the environment; `fresh`: it gets an interpreter of its own, not a fork of one."""
        self._fresh = fresh
        self._words = words
        self.settings = settings
        self._environ = environ
        self._log = settings.parent / "stderr"
        self._log.touch()
        self._process: Running | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_until_serving()

    def launch(self) -> None:
        """Start it."""
        self._before = self._log.stat().st_size
        words = ("-c", str(self.settings), "--log-format", "json", "serve", *self._words)
        environ = usual_environment() | self._environ
        with self._log.open("ab") as log:
            self._process = started(
                *words, folder=self.settings.parent, environ=environ, stderr=log.fileno(), fresh=self._fresh
            )

    def wait_until_serving(self) -> None:
        self.scim, self.operations = until(self._addresses, "the daemon serves", told=self._said_now)

    def _addresses(self) -> tuple[str, ...]:
        """Return where it serves SCIM and operations, once it has said so."""
        assert self._running().poll() is None, self._said_now()
        found = READY.search(self._said_now())
        return found.groups() if found else ()

    def _said_now(self) -> str:
        """Return what it has said in this life."""
        with self._log.open("rb") as log:
            log.seek(self._before)
            return log.read().decode()

    @property
    def pid(self) -> int:
        return self._running().pid

    def _running(self) -> Running:
        assert self._process is not None, "the daemon is not running"
        return self._process

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, nothing drained."""
        process = self._running()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._process = None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) and go on."""
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def exit_code(self, seconds: float = 40.0) -> int:
        """Wait for its end."""
        code = self._running().wait(seconds)
        self._process = None
        return code

    @property
    def directory(self) -> ScimDirectory:
        return ScimDirectory(self.scim)

    def said(self) -> str:
        return self._log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """Return its log lines, over all lives."""
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]

    def times_of(self, name: str) -> list[float]:
        """Return when it has logged this, in epoch seconds, over all lives."""
        return [datetime.fromisoformat(event["ts"]).timestamp() for event in self.events() if event["event"] == name]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_for_event(self, name: str, times: int = 1) -> dict[str, Any]:
        """Wait until it has logged this so many times, and return the newest."""

        def told() -> list[dict[str, Any]]:
            found = [event for event in self.events() if event["event"] == name]
            return found if len(found) >= times else []

        return until(told, f"{name} is logged", told=self.said)[-1]

    def assert_discreet(self, *secrets: str) -> None:
        """No secret of anybody was ever written to stderr, and no traceback."""
        said = self.said()
        for secret in (ADMIN_KEY, TOKEN, *secrets):
            assert secret not in said
        assert "Traceback" not in said, said[said.index("Traceback") :][:4000]
