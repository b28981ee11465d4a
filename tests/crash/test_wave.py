"""The real daemon, killed (-9) again and again while a wave of people leaves: nobody is lost, nobody else is touched."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice, pairwise
from pathlib import Path

import pytest
from support.company import OWN
from support.daemon import Daemon, idsync
from support.directory import ScimDirectory
from support.gateway import WORKS, Gateway, Holder
from support.home import Home
from support.settings import store_url, write_settings
from support.waiting import until

from crash.judge import Fate, Judge, World, repeated_deletions
from crash.size import CRASH, FULL
from idsync.audit import first_break
from idsync.store import jobs, journal, ledger
from idsync.store.sqlite import inspect, read_only

PEOPLE, KILLS = CRASH.scaled(40, 1000), CRASH.scaled(6, 200)
TEAM = 20
"""People in one team; every fifth of them stays."""
STARTING, START = 0.2, 1.0
"""So many of the kills happen at an instant of the seconds in which a daemon starts."""
WORK = 0.8
"""The others happen at an instant of so many seconds of work."""
LATENCY = 0.01
"""Seconds a gateway call takes, so that most kills find somebody halfway."""
BACKUPS = 2.0 if FULL else 0.2
"""Seconds between two copies of the store."""
PATIENCE = 300.0
KNOWN = "entries departure.settled"
"""A look that comes before the cache time is over, as a pass may ask for one, is told as settled too."""


class Crowd:
    """Leavers and people who stay, in teams; each has one key in their team and one in none, each team a shared one."""

    def __init__(self, gateway: Gateway, leavers: int) -> None:
        people = [f"p{number:04}" for number in range(leavers * 5 // 4)]
        team_of = {name: f"team-{number // TEAM:03}" for number, name in enumerate(people)}
        teams = sorted(set(team_of.values()))
        owned = [(name, where) for name in people for where in (team_of[name], None)]
        seed = {
            "teams": [{"team_id": team, "team_alias": team} for team in teams],
            "users": [{"user_id": name, "user_email": f"{name}@corp.example", "metadata": OWN} for name in people],
            "members": [{"team_id": team_of[name], "user_id": name} for name in people],
            "keys": [
                *({"user_id": name, "team_id": where} for name, where in owned),
                *({"user_id": None, "team_id": team} for team in teams),
            ],
        }
        keys = gateway.seeded(seed)
        holders = {name: Holder(name, f"{name}@corp.example") for name in people}
        for (name, _), key in zip(owned, keys, strict=False):
            holders[name].keys.append(key)
        self.secrets = [key.raw for key in keys]
        self.staying = [holder for number, holder in enumerate(holders.values()) if number % 5 == 4]
        self.leavers = [holder for number, holder in enumerate(holders.values()) if number % 5 != 4]
        self.bystanders = [*(key for holder in self.staying for key in holder.keys), *keys[len(owned) :]]


class Provider:
    """An identity provider that pushes some people at a time, and each until it is answered 2xx."""

    def __init__(self, daemon: Daemon, ids: Mapping[str, str]) -> None:
        self._daemon = daemon
        self._directory = ScimDirectory("")
        self._directory.ids |= ids
        self._pool = ThreadPoolExecutor(4)
        self._closing = threading.Event()

    def leave(self, holders: Sequence[Holder]) -> None:
        for holder in holders:
            self._pool.submit(self._push, holder.email)

    def _push(self, email: str) -> None:
        while not self._closing.is_set():
            with suppress(OSError, http.client.HTTPException, AssertionError):
                self._directory.at(self._daemon.scim).leave(email)
                return
            self._closing.wait(0.02)

    def __enter__(self) -> Provider:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._pool.shutdown()


@contextmanager
def copying(settings: Path, folder: Path) -> Iterator[list[Path]]:
    """Make a backup every now and then, whatever goes on meanwhile."""
    folder.mkdir()
    copies: list[Path] = []
    refused: list[str] = []
    done = threading.Event()

    def copy() -> None:
        while not done.wait(BACKUPS):
            target = folder / f"{len(copies)}.db"
            made = idsync(settings, "db", "backup", str(target))
            copies.append(target)
            refused.extend([made.err] if made.code else [])

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield copies
    finally:
        done.set()
        thread.join()
    assert not refused


def everybody_settled(settings: Path) -> bool:
    with read_only(store_url(settings)) as db:
        settled = sum(departure.settled_at is not None for departure in ledger.departures(db, limit=2 * PEOPLE))
        return settled == PEOPLE and not jobs.all_jobs(db)


def under_way(settings: Path) -> int:
    """Return how many people somebody works on, by the store beside the daemon."""
    with read_only(store_url(settings)) as db:
        return sum(job.leased for job in jobs.all_jobs(db))


def killed_again_and_again(daemon: Daemon, provider: Provider, leavers: Sequence[Holder]) -> list[int]:
    """Let everybody leave, some in each life of the daemon; when each life ends, and how many have left, is drawn.

    Returns how many people each kill found halfway.
    """
    dice = CRASH.dice("wave")
    halfway: list[int] = []
    people = iter(leavers)
    cuts = sorted(dice.randrange(len(leavers) + 1) for _ in range(KILLS))
    for left, more in pairwise([0, *cuts]):
        starting = dice.random() < STARTING
        if not starting:
            daemon.wait_until_serving()
        life = dice.uniform(0.0, START if starting else WORK)
        begun = time.monotonic()
        for moment in [*sorted(dice.uniform(0.0, life) for _ in range(more - left)), life]:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            provider.leave(list(islice(people, int(moment < life))))
        daemon.kill()
        halfway.append(under_way(daemon.settings))
        daemon.launch()
    provider.leave(list(people))
    daemon.wait_until_serving()
    return halfway


def assert_copies_are_sound(copies: Sequence[Path], settings: Path) -> None:
    """Each opens, and its audit trail is whole and the beginning of the one there is now."""
    assert copies
    with read_only(store_url(settings)) as db:
        seals = {event.seq: event.hash for event in journal.events(db)}
    for copy in copies:
        assert inspect(f"sqlite:///{copy}").sound
        with read_only(f"sqlite:///{copy}") as db:
            events = list(journal.events(db))
        assert first_break(events) is None
        assert seals[events[-1].seq] == events[-1].hash


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway) -> Path:
    changed = {"routero": {"cache_time": "500ms"}, "guard": {"max_push_departures": 2 * PEOPLE}}
    return write_settings(tmp_path, gateway.sandbox.url, **changed)


def test_a_wave_under_kills_loses_nobody(tmp_path: Path, settings: Path, gateway: Gateway, figures: list[str]) -> None:
    crowd = Crowd(gateway, PEOPLE)
    with Home(settings, working=False) as home:
        ids = {holder.email: home.directory.hire(holder.email).id for holder in (*crowd.leavers, *crowd.staying)}
    gateway.ready()
    gateway.hook("options", {"latency": LATENCY})
    before = World(gateway.state())
    with Daemon(settings) as daemon:
        with Provider(daemon, ids) as provider, copying(settings, tmp_path / "copies") as copies:
            halfway = killed_again_and_again(daemon, provider, crowd.leavers)
            until(lambda: everybody_settled(settings), "everybody is settled", PATIENCE)
        gateway.hook("options", {"latency": 0})
        judge = Judge(gateway, settings, [Fate(holder, holder.keys) for holder in crowd.leavers], before, KILLS + 1)
        assert judge.of_the_gateway() == []
        assert gateway.answers(crowd.bystanders) == {WORKS}
        daemon.assert_discreet(*crowd.secrets)
    assert [fault for fault in judge.of_the_books() if not fault.endswith(KNOWN)] == []
    assert idsync(settings, "audit", "verify").code == 0
    assert idsync(settings, "db", "check").code == 0
    assert_copies_are_sound(copies, settings)
    repeats = repeated_deletions(gateway.log())
    keys = sum(len(holder.keys) for holder in crowd.leavers)
    figures.append(
        f"{PEOPLE} leavers with {keys} keys, {KILLS} kills ({sum(map(bool, halfway))} of them found"
        f" {sum(halfway)} people halfway): 0 lost, 0 harmful,"
        f" {repeats} needless deletions ({repeats / keys:.1%}), {len(copies)} sound copies"
    )
    assert repeats <= 2 * sum(halfway), "only what a kill has interrupted is done again"
    if FULL:
        assert repeats < keys / 10
