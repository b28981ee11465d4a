"""Leo has left, an hour and more ago: what is spent, and what idsync says of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click import ClickException
from click.testing import CliRunner
from support.company import Company, founded
from support.daemon import Done
from support.fixtures import Opener
from support.gateway import Gateway, Key
from support.home import Home

from idsync.cli import main
from idsync.clock import ManualClock
from idsync.errors import IdsyncError
from idsync.store import spend

HOUR = 3600.0
BACK = 6 * HOUR
"""Both clocks begin so many seconds ago and go when they are told to; the command line has the real one."""


@dataclass
class Place:
    opened: Opener
    gateway: Gateway
    home: Home
    company: Company
    clock: ManualClock
    passed: float = 0.0

    @classmethod
    def of(cls, opened: Opener, gateway: Gateway, **changed: Any) -> Place:
        clock = ManualClock(time.time() - BACK)
        gateway.advance(-BACK)
        home = opened(clock=clock, **changed)
        return cls(opened, gateway, home, founded(gateway, home), clock)

    def close(self) -> None:
        """Set the gateway's clock right again: others use it after this."""
        self.gateway.advance(BACK - self.passed)

    @property
    def key(self) -> Key:
        return self.company.leo.keys[0]

    # -- doing ------------------------------------------------------------------------------------------------------

    def leaves(self) -> None:
        self.home.offboard("leo")

    def look(self, after: float = HOUR) -> None:
        """Let time pass and look at whoever is due."""
        self.clock.advance(after)
        self.gateway.advance(after)
        self.passed += after
        self.home.run(self.home.core.watch.beat())

    def chat(self, key: Key) -> None:
        sent = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello?"}]}
        assert self.gateway.post("/v1/chat/completions", sent, key=key.raw).status == 200

    def book(self, key: Key, amount: float, *, ago: float = 0.0, in_archive: bool = False) -> None:
        """A request of so many seconds ago is booked on a key, whether it should be dead or not."""
        began = datetime.fromtimestamp(self.clock.now() - ago, UTC).isoformat()
        act = {"key": key.id, "spend": amount, "at": began, "in_archive": in_archive}
        self.gateway.hook("act", {"book_spend": act})

    def run(self, *words: str) -> Done:
        return typed(self.opened.settings, *words)

    # -- looking ----------------------------------------------------------------------------------------------------

    def found(self) -> dict[str, float]:
        """Return what was found so far, by key."""
        return {one.key_id: one.spend for one in spend.after_since(self.home.db, 0.0)}

    def audited(self) -> list[Mapping[str, Any]]:
        return [one.detail for one in self.home.trail() if one.action == "spend.after_departure"]

    def metric(self, name: str) -> float:
        lines = self.home.core.metrics.text().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name)

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        told: dict[str, Any] = done.json["spend_after_departure"]
        return told


def typed(settings: Path, *words: str) -> Done:
    """Run a command in this process: what a child would print, and its exit code, without the second it takes to start."""
    done = CliRunner().invoke(main.cli, ["-c", str(settings), *words], standalone_mode=False)
    error = done.exception
    if error is not None and not isinstance(error, (IdsyncError, ClickException)):
        raise error
    code = error.exit_code if error is not None else done.return_value or 0
    return Done(code, done.stdout, done.stderr)


def rows_of(done: Done) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.out)["teams"]
    return found


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("idsync.db*") if path.is_file())
