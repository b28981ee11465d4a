"""Three daemons on one PostgreSQL, any of them killed (-9) at random while a wave leaves, and the database as well."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.crowd import Crowd
from support.daemon import Daemon, idsync
from support.directory import ScimDirectory
from support.gateway import WORKS, Gateway, Holder
from support.home import Home
from support.postgres import postgres
from support.settings import store_url, write_settings
from support.waiting import free_port, until

from crash.judge import Fate, Judge, World, repeated_deletions
from crash.size import CRASH
from idsync.audit import first_break
from idsync.errors import StoreError
from idsync.store import journal
from idsync.store.opening import read_only

REPLICAS = 3
PEOPLE, KILLS, DATABASE_KILLS = CRASH.scaled(40, 1000), CRASH.scaled(6, 60), CRASH.scaled(1, 10)
LATENCY = 0.005
PAUSE = 1.5
"""Seconds between two kills, at most."""
PATIENCE = 1500.0
BACK = 10.0
"""Seconds within which somebody leads again."""


class Provider:
    """An identity provider behind a load balancer: it asks any replica, until one answers 2xx."""

    def __init__(self, addresses: Sequence[str], ids: Mapping[str, str]) -> None:
        self._directories = [ScimDirectory(address) for address in addresses]
        for directory in self._directories:
            directory.ids |= ids
        self._pool = ThreadPoolExecutor(6)
        self._closing = threading.Event()
        self._dice = random.Random(7)

    def leave(self, holders: Sequence[Holder]) -> None:
        for holder in holders:
            self._pool.submit(self._push, holder.email)

    def _push(self, email: str) -> None:
        while not self._closing.is_set():
            with suppress(OSError, http.client.HTTPException, AssertionError):
                self._dice.choice(self._directories).leave(email)
                return
            self._closing.wait(0.05)

    def __enter__(self) -> Provider:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._pool.shutdown()


def settled(settings: Path) -> int:
    """Return how many departures are settled, -1 while the database does not answer."""
    with suppress(StoreError), read_only(store_url(settings)) as db:
        row = db.one("SELECT COUNT(settled_at) AS n FROM departures")
        return int(row["n"]) if row else 0
    return -1


@pytest.fixture
def server() -> Iterator[Any]:
    with postgres() as made:
        yield made


@pytest.fixture
def replicas(tmp_path: Path, gateway: Gateway, server: Any) -> list[Path]:
    """The settings of three daemons that share a database."""
    found = []
    for number in range(REPLICAS):
        folder = tmp_path / f"replica-{number}"
        folder.mkdir()
        changed = {
            "store": {"url": server.url},
            "server": {"port": free_port(), "ops_port": 0},
            "routero": {"cache_time": "500ms"},
            "guard": {"max_push_departures": 2 * PEOPLE},
        }
        found.append(write_settings(folder, gateway.sandbox.url, **changed))
    return found


def tend(daemons: Sequence[Daemon]) -> None:
    """Start again whatever has ended, as a supervisor does."""
    for daemon in daemons:
        if not daemon.is_running:
            daemon.launch()


def gaps(daemons: Sequence[Daemon], kills: Sequence[tuple[float, int]]) -> list[float]:
    """Return for how many seconds nobody led, for each kill of whoever led."""
    taken = sorted((at, number) for number, daemon in enumerate(daemons) for at in daemon.times_of("lead.taken"))
    found = []
    for at, number in kills:
        before = [who for when, who in taken if when < at]
        after = [when for when, _ in taken if when > at]
        if before and before[-1] == number and after:
            found.append(after[0] - at)
    return found


@pytest.mark.slow
def test_a_wave_over_three_replicas_under_kills_loses_nobody(
    replicas: list[Path], server: Any, gateway: Gateway, figures: list[str]
) -> None:
    gateway.hook("options", {"licence": True})
    crowd = Crowd(gateway, PEOPLE)
    with Home(replicas[0], working=False) as home:
        ids = {holder.email: home.directory.hire(holder.email).id for holder in (*crowd.leavers, *crowd.staying)}
    gateway.ready()
    gateway.hook("options", {"latency": LATENCY})
    before, dice = World(gateway.state()), CRASH.dice("replicas")
    steps = ["daemon"] * KILLS + ["database"] * DATABASE_KILLS
    dice.shuffle(steps)
    killed: list[tuple[float, int]] = []
    daemons = [Daemon(settings) for settings in replicas]
    try:
        for daemon in daemons:
            daemon.start()
        with Provider([daemon.scim for daemon in daemons], ids) as provider:
            for number, step in enumerate(steps):
                share = slice(PEOPLE * number // len(steps), PEOPLE * (number + 1) // len(steps))
                provider.leave(crowd.leavers[share])
                time.sleep(dice.random() * PAUSE)
                if step == "database":
                    server.kill()
                    server.start()
                else:
                    victim = dice.randrange(REPLICAS)
                    if daemons[victim].is_running:
                        daemons[victim].kill()
                        killed.append((time.time(), victim))
                tend(daemons)

            def all_settled() -> bool:
                tend(daemons)
                return settled(replicas[0]) == PEOPLE

            until(all_settled, "everybody is settled", PATIENCE)
        gateway.hook("options", {"latency": 0})
        fates = [Fate(holder, holder.keys) for holder in crowd.leavers]
        judge = Judge(gateway, replicas[0], fates, before, KILLS + DATABASE_KILLS + REPLICAS)
        assert judge.of_the_gateway() == []
        assert gateway.answers(crowd.bystanders) == {WORKS}
        for daemon in daemons:
            daemon.assert_discreet(*crowd.secrets)
        without_lead = gaps(daemons, killed)
    finally:
        for daemon in daemons:
            if daemon.is_running:
                daemon.terminate()
                daemon.exit_code(120.0)
    with read_only(store_url(replicas[0])) as db:
        assert journal.unlinked(db) == 0
        assert first_break(journal.events(db)) is None
        assert db.all("SELECT * FROM jobs WHERE owner IS NOT NULL") == []
    assert judge.of_the_books() == []
    assert idsync(replicas[0], "audit", "verify").code == 0
    repeats = repeated_deletions(gateway.log())
    keys = sum(len(holder.keys) for holder in crowd.leavers)
    longest = max(without_lead, default=0.0)
    figures.append(
        f"{PEOPLE} leavers with {keys} keys over {REPLICAS} replicas, {len(killed)} kills of one, {DATABASE_KILLS} of the"
        f" database: 0 lost, 0 harmful, {repeats} needless deletions ({repeats / keys:.1%}); nobody led for"
        f" {longest:.1f} s at most ({len(without_lead)} times)"
    )
    assert longest < BACK
