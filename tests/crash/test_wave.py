"""The real daemon, killed (-9) again and again while a wave of people leaves: nobody is lost, nobody else is touched."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from support.crowd import Crowd
from support.daemon import Daemon, idsync
from support.directory import ScimDirectory
from support.gateway import WORKS, Gateway, Holder
from support.home import Home
from support.settings import store_url, write_settings
from support.stores import SHARED
from support.waiting import until

from crash.judge import Fate, Judge, World, repeated_deletions
from crash.size import CRASH, FULL
from idsync.audit import first_break
from idsync.store import jobs, journal
from idsync.store.opening import read_only
from idsync.store.sqlite import inspect

PEOPLE, KILLS = CRASH.scaled(40, 1000), CRASH.scaled(6, 200)
STARTING, START = 0.2, 1.0
"""So many of the kills happen at an instant of the seconds in which a daemon starts; the others while it works."""
CALLS = 50
"""Twice the gateway calls that a leaver takes: half of the kills happen anywhere in them, the rest when all is done."""
LATENCY = 0.005
"""Seconds a gateway call takes, so that most kills find somebody halfway."""
BACKUPS = 2.0 if FULL else 0.2
"""Seconds between two copies of the store."""
PATIENCE = 300.0


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
    """Make a backup every now and then, whatever goes on meanwhile; of a database, its own tools make it."""
    folder.mkdir()
    copies: list[Path] = []
    if SHARED:
        yield copies
        return
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


def departed(settings: Path, stage: str) -> int:
    """Return how many have come so far, by the store beside the daemon."""
    with read_only(store_url(settings)) as db:
        row = db.one(f"SELECT COUNT({stage}_at) AS n FROM departures")  # noqa: S608
        return int(row["n"]) if row else 0


def under_way(settings: Path) -> int:
    """Return how many people somebody works on, by the store beside the daemon."""
    with read_only(store_url(settings)) as db:
        return sum(job.leased for job in jobs.all_jobs(db))


def _equal(counted: Callable[[], int], number: int) -> bool:
    return counted() == number


def killed_again_and_again(
    daemon: Daemon, gateway: Gateway, provider: Provider, leavers: Sequence[Holder]
) -> list[int]:
    """Let everybody leave, some in each life of the daemon; how many, and when that life ends, is drawn.

    Returns how many people each kill found halfway.
    """
    dice = CRASH.dice("wave")
    halfway: list[int] = []
    for before, left in pairwise([0, *sorted(dice.randrange(len(leavers) + 1) for _ in range(KILLS))]):
        instant, starting = dice.random(), dice.random() < STARTING
        provider.leave(leavers[before:left])
        if starting:
            time.sleep(instant * START)
        else:
            daemon.wait_until_serving()
            verified = partial(departed, daemon.settings, "verified")
            calls = round(instant * CALLS * (1 + left - verified()))
            gateway.wait_for_calls(calls, unless=partial(_equal, verified, left))
        daemon.kill()
        halfway.append(under_way(daemon.settings))
        daemon.launch()
    provider.leave(leavers[left:])
    daemon.wait_until_serving()
    return halfway


def assert_copies_are_sound(copies: Sequence[Path], settings: Path) -> None:
    """Each opens, and its audit trail is whole and the beginning of the one there is now."""
    assert copies or SHARED
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
    gateway.hook("options", {"licence": True})
    crowd = Crowd(gateway, PEOPLE)
    with Home(settings, working=False) as home:
        ids = {holder.email: home.directory.hire(holder.email).id for holder in (*crowd.leavers, *crowd.staying)}
    gateway.ready()
    gateway.hook("options", {"latency": LATENCY})
    before = World(gateway.state())
    with Daemon(settings) as daemon:
        with Provider(daemon, ids) as provider, copying(settings, tmp_path / "copies") as copies:
            halfway = killed_again_and_again(daemon, gateway, provider, crowd.leavers)
            until(lambda: departed(settings, "settled") == PEOPLE, "everybody is settled", PATIENCE)
        gateway.hook("options", {"latency": 0})
        judge = Judge(gateway, settings, [Fate(holder, holder.keys) for holder in crowd.leavers], before, KILLS + 1)
        assert judge.of_the_gateway() == []
        assert gateway.answers(crowd.bystanders) == {WORKS}
        daemon.assert_discreet(*crowd.secrets)
    assert judge.of_the_books() == []
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
