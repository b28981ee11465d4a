"""A hundred days at the stand-in gateway: what has rested goes, what is open or banned stays, and who left stays out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.directory import mail
from support.gateway import REFUSED
from support.virtual import Simulation

from idsync import config
from idsync.app.reload import reload
from idsync.control import find_person
from idsync.evidence.pack import Asked, gather
from idsync.model import Person
from idsync.retention.pruner import DONE, Kept
from idsync.store import called, directory, facts, journal, ledger
from idsync.store.opening import read_only
from idsync.verify import departures_of
from idsync.verify import verify as look
from idsync.views import departure_view

DAY = 86400.0
RETENTION = {"receipts": "90d", "departures": "90d", "spend": "90d", "tombstones": "90d"}
LEFT = ["leo", "ann", "pat"]
"""Leo is deleted for good, Ann comes back, Pat is one too many for the guard: their keys wait for a decision."""


class Years:
    took: list[float]
    """Times to revoke, before anything was taken."""

    def __init__(self, folder: Path) -> None:
        slow: dict[str, Any] = {"reconcile": {"every": "300d"}, "guard": {"max_push_departures": 2}}
        self.world = Simulation(folder, **slow)

    def live(self) -> None:
        world = self.world
        for login in [*LEFT, "ben", "new"]:
            world.directory.hire(login, "Data", display_name=f"Display {login}")
        self.rest()
        self.accounts = {login: self.person(login).account_id or "" for login in [*LEFT, "ben", "new"]}
        self.ids = {login: self.person(login).id for login in self.accounts}
        self.keys = {login: world.gateway.key_of(account, "data") for login, account in self.accounts.items()}
        world.gateway.ready()
        asked: dict[str, Any] = {"user": mail("ben"), "reason": "stole", "by": "op"}
        world.run(world.core.commands(alone=False).revoke(**asked))
        world.directory.delete("leo")
        for login in LEFT[1:]:
            world.directory.leave(login)
            world.pass_time(1)
        self.rest()
        world.directory.come_back("ann")
        world.loop.jumping.passed += 100 * DAY  # in one step: what waits is due once, not a million times
        world.directory.leave("new")
        self.rest()

    def rest(self) -> None:
        self.world.pass_time(300)
        self.world.until(self.world.quiet, "all is done", within=3600)

    def person(self, login: str) -> Person:
        found = find_person(self.world.db, mail(login))
        assert found is not None
        return found

    def departure(self, login: str) -> ledger.Departure:
        return ledger.departures_of(self.world.db, self.ids[login])[-1]

    def calls(self, login: str) -> int:
        return len(ledger.calls_of(self.world.db, self.departure(login).id)[0])

    def alive(self, login: str) -> tuple[str, ...]:
        """Ask the gateway as `idsync verify` does."""
        db, core = self.world.db, self.world.core
        (found,) = self.world.run(look(db, core.gateway, departures_of(db, self.ids[login]), core.clock.now()))
        return found.alive


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Years]:
    made = Years(tmp_path_factory.mktemp("years"))
    with made.world:
        made.live()
        before = dict(journal_and_rows(made))
        made.world.run(made.world.core.pruner().beat())
        assert made.world.run(made.world.core.pruner().turn(Kept())) == {}
        made.world.core.store.write(lambda db: facts.drop(db, DONE))
        assert journal_and_rows(made) == before, "nothing is set: nothing is taken"
        wanted = config.load(str(made.world.settings), {}).config
        kept = wanted.retention.model_copy(update=dict.fromkeys(RETENTION, 90 * DAY))
        done = made.world.run(reload(made.world.core, wanted.model_copy(update={"retention": kept})))
        assert done.after_restart == ()
        made.took = ledger.times_to_revoke(made.world.db, 0.0)
        made.world.run(made.world.core.pruner().beat())
        yield made


def journal_and_rows(years: Years) -> dict[str, int]:
    tables = ("audit", "departure_calls", "departures", "users", "names", "facts", "groups", "bans", "holds")
    rows = {table: years.world.db.one(f"SELECT COUNT(*) AS n FROM {table}") for table in tables}  # noqa: S608
    return {table: row["n"] for table, row in rows.items() if row is not None}


@pytest.mark.parametrize(
    ("login", "calls", "names", "keys"),
    [("leo", False, False, True), ("ann", False, True, False), ("pat", True, True, None), ("new", True, True, True)],
)
def test_what_has_rested_goes(years: Years, login: str, calls: bool, names: bool, keys: bool | None) -> None:
    departure = years.departure(login)
    receipt = dict(departure.receipt or {})
    assert bool(years.calls(login)) is calls
    assert ("pruned_at" in receipt) is not calls
    assert bool({one.kind for one in called.names(years.world.db, years.ids[login])} - {"external_id"}) is names
    assert receipt.get("accounts", []) == ([] if login == "ann" else [years.accounts[login]])
    if keys is not None:
        assert ([key["id"] for key in receipt.get("keys", [])] == [years.keys[login].id]) is keys
    record = directory.users_of_person_any(years.world.db, years.ids[login])[0]
    assert (record.external_id, bool(record.doc), record.email is not None) == (f"x-{login}", names, names)
    said = repr([departure, record, years.world.db.all("SELECT * FROM persons WHERE id = :id", id=years.ids[login])])
    assert (mail(login) in said) is names


def test_the_details_of_who_came_back_go_but_not_the_times(years: Years) -> None:
    """The id of the row is the tag of a fence, its times are the statistics."""
    departure = years.departure("ann")
    assert (departure.label, departure.account_id, departure.cause) == (years.ids["ann"], None, "details pruned")
    assert departure.closed_at is not None
    assert ledger.times_to_revoke(years.world.db, 0.0) == years.took
    assert years.person("ann").label == mail("ann")


def test_the_banned_stay_as_they_are(years: Years) -> None:
    departure = years.departure("ben")
    assert (departure.label, years.calls("ben") > 0) == (mail("ben"), True)
    assert "pruned_at" not in (departure.receipt or {})


def test_the_trail_says_what_was_taken(years: Years) -> None:
    (entry,) = [one for one in journal.events(years.world.db) if one.action == "retention.pruned"]
    assert entry.detail["taken"].keys() == {"receipts", "departures", "tombstones"}
    assert entry.detail["kept_seconds"]["receipts"] == 90 * DAY
    assert facts.get(years.world.db, "retention:under_way") is None


def test_an_auditor_still_gets_everybody(years: Years) -> None:
    """With what is left of each, and nobody's name who was forgotten."""
    now = years.world.core.clock.now()
    with read_only(years.world.core.config.store.url) as db:
        pack = gather(db, Asked(0.0, now + DAY, 3600.0, ("a", "b"), None)).as_json()
    rows = {row["departure"]: row for row in pack["leavers"]}
    assert rows.keys() == {years.departure(login).id for login in years.ids}
    assert (rows[years.departure("leo").id]["user"], pack["audit"]["whole"]) == (years.ids["leo"], True)
    views = [departure_view(years.world.db, years.departure(login)) for login in ("leo", "ann")]
    assert mail("leo") not in repr([rows[years.departure("leo").id], views])
    assert all(view["receipt"]["pruned_at"] and view["time_to_revoke_seconds"] > 0 for view in views)


def test_a_second_look_the_same_day_takes_nothing(years: Years) -> None:
    before = journal_and_rows(years)
    years.world.run(years.world.core.pruner().beat())
    years.world.run(years.world.core.pruner().turn(years.world.core.pruner()._kept()))
    assert journal_and_rows(years) == before


def test_whoever_was_forgotten_still_stays_out(years: Years) -> None:
    """Their account, their keys by id and their fence are known: what comes back is seen, and ended."""
    world, account = years.world, years.accounts["leo"]
    assert years.alive("leo") == ()
    back = world.gateway.key_of(account, "data")
    world.gateway.put_on("web", account)
    assert len(years.alive("leo")) == 2
    world.run(world.core.reconciler.apply())
    years.rest()
    assert (world.gateway.answers([back]), world.gateway.teams_with(account)) == ({REFUSED}, [])
    assert years.alive("leo") == ()
    assert years.calls("leo") > 0, "and there is a receipt of it"


def test_whoever_comes_back_after_that_is_the_same_person(years: Years) -> None:
    years.world.directory.hire("leo", "Data")
    years.rest()
    person = years.person("leo")
    assert replace(person, generation=0) == replace(person, generation=0, id=years.ids["leo"], label=mail("leo"))
    assert person.account_id == years.accounts["leo"]
    assert years.world.gateway.answers([years.keys["leo"]]) == {REFUSED}
