"""One release replaces another while both run on one database: nothing stops, and nothing is taken from the older one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.adding import later, not_adding
from support.company import founded
from support.daemon import Daemon, Done, idsync
from support.gateway import Gateway
from support.home import Home
from support.settings import write_settings
from support.stores import SERVER, database
from support.waiting import until

from idsync.errors import StoreError
from idsync.store import ledger
from idsync.store.opening import read_only, store_of
from rolling.releases import Release

pytestmark = pytest.mark.skipif(not SERVER, reason="there is no PostgreSQL to make databases on: IDSYNC_TEST_POSTGRES")
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'idsync_migrations'"


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return sorted(row[0] for row in connection.execute(TABLES))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database(tmp_path / "idsync.db")


@pytest.fixture
def next_release(tmp_path: Path, url: str) -> Release:
    """A release that adds to every table; when the older one is gone, it takes away a table and a column."""
    added = later(tables(url))
    assert not_adding(added) == []
    taken = "DROP TABLE later; ALTER TABLE facts DROP COLUMN later;"
    return Release(tmp_path / "next", {"0090_later.sql": added, "0091_gone.post.sql": taken})


def replica(folder: Path, gateway: Gateway, url: str) -> Path:
    folder.mkdir()
    return write_settings(folder, gateway.sandbox.url, store={"url": url})


def state_of(url: str, login: str) -> list[Any]:
    with read_only(url) as db:
        return [one.verified_at is not None for one in ledger.departures(db) if login in one.label]


def is_outgrown(done: Done) -> bool:
    return (done.code, "0091_gone.post" in done.err, "newer release" in done.err) == (1, True, True)


def test_one_release_replaces_another_while_both_serve(
    tmp_path: Path, gateway: Gateway, url: str, next_release: Release
) -> None:
    settings = [replica(tmp_path / name, gateway, url) for name in ("first", "second", "third")]
    with Home(settings[0]) as home:
        company = founded(gateway, home)
    with Daemon(settings[0]) as first:
        planned = next_release.run(settings[2], "db", "migrate", "--dry-run", "--json")
        assert (planned.code, planned.json["missing"], planned.json["post"]) == (3, ["0090_later"], ["0091_gone.post"])
        told = next_release.run(settings[2], "status")
        assert told.code == 1
        assert "idsync db migrate" in told.err
        applied = next_release.run(settings[2], "db", "migrate", "--json")
        assert (applied.code, applied.json["applied"]) == (0, ["0090_later"]), applied.err

        with Daemon(settings[1]) as second, next_release.daemon(settings[2]) as third:
            second.wait_for_event("store.newer")
            pushing = first.directory
            pushing.leave("leo")
            until(lambda: state_of(url, "leo") == [True], "leo has gone")
            for number, daemon in enumerate((first, second, third)):
                pushing = pushing.at(daemon.scim)
                pushing.hire(f"joiner{number}", "Web")
                gateway.wait_for_user(f"joiner{number}@corp.example")
            company.assert_leo_is_gone()
            assert idsync(settings[0], "status", "--json").code == 0
            assert idsync(settings[0], "audit", "verify").code == 0

            refused = next_release.run(settings[2], "db", "migrate", "--post")
            assert refused.code == 7
            assert refused.err.count("all") == 2, "both replicas of the older release are named"
            for daemon in (first, second):
                daemon.terminate()
                assert daemon.exit_code() == 0
            taken = next_release.run(settings[2], "db", "migrate", "--post", "--json")
            assert (taken.code, taken.json["applied"]) == (0, ["0091_gone.post"]), taken.err

            for words in (["serve"], ["status"], ["freeze", "--reason", "x"], ["db", "migrate"]):
                assert is_outgrown(idsync(settings[0], *words)), words
            third.assert_discreet()


def test_who_was_forgotten_meanwhile_refuses_when_it_comes_back(url: str) -> None:
    """A replica that was cut off does not count any more; what was taken away since then is not there for it."""
    store = store_of(url)
    store.open()
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO idsync_migrations (name) VALUES ('0091_gone.post')")
            connection.execute("DELETE FROM replicas")

        def refuses() -> bool:
            try:
                store.write(lambda db: None)
            except StoreError as error:
                return "newer release" in str(error)
            return False

        until(refuses, "it refuses to write")
        with pytest.raises(StoreError, match="newer release"):
            store.reader()
        until(lambda: not store.leads, "it does not lead")
    finally:
        store.close()
