"""idsync behind the PgBouncer of Debian's packages: by transaction, by session, and by statement, which is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from crash.test_replicas import Provider
from support.crowd import Crowd
from support.daemon import Daemon, idsync
from support.gateway import WORKS, Gateway
from support.home import Home
from support.pooler import PROGRAM, pooler
from support.settings import write_settings
from support.stores import SERVER, database
from support.waiting import until

from idsync.audit import first_break
from idsync.clock import SystemClock
from idsync.errors import StoreError
from idsync.store import facts, journal
from idsync.store.opening import read_only, store_of

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed: make pgbouncer"),
    pytest.mark.skipif(not SERVER, reason="there is no PostgreSQL to make databases on: make pgbouncer"),
]
LEAVERS = 40


@contextmanager
def replicas(folder: Path, gateway: Gateway, url: str, count: int) -> Iterator[list[Daemon]]:
    """Run so many daemons on one database."""
    with ExitStack() as stack:
        running = []
        for number in range(count):
            own = folder / f"replica-{number}"
            own.mkdir()
            changed = {"store": {"url": url}, "guard": {"max_push_departures": 2 * LEAVERS}}
            running.append(stack.enter_context(Daemon(write_settings(own, gateway.sandbox.url, **changed))))
        yield running


def verified(url: str) -> int:
    with read_only(url) as db:
        row = db.one("SELECT COUNT(verified_at) AS n FROM departures")
    return int(row["n"]) if row else 0


def leaders(url: str) -> list[str]:
    """Return who leads by the word of the database, and by whose clock it is not over."""
    with read_only(url) as db:
        rows = db.all("SELECT replica_id FROM leader WHERE place = 'leader' AND until > EXTRACT(EPOCH FROM now())")
        return [row["replica_id"] for row in rows]


def assert_commands_work(settings: Path, leaver: str) -> None:
    """Read, write and read again by way of the pooler, each in a process of its own."""
    for words in (["status"], ["departures"], ["verify"], ["audit", "verify"], ["holds", "list"]):
        done = idsync(settings, *words, "--json")
        assert done.code == 0, (words, done.err)
    revoked = idsync(settings, "revoke", leaver, "--reason", "test", "--wait", "20", "--json")
    assert (revoked.code, revoked.json["departure"]["state"]) == (0, "verified"), revoked.err


@pytest.mark.parametrize(("mode", "size", "count"), [("transaction", 4, 3), ("session", 30, 2)])
def test_a_wave_through_a_pooler_that_dies_in_it(
    tmp_path: Path, gateway: Gateway, mode: str, size: int, count: int
) -> None:
    """Pushes, the lead, jobs, the trail and commands of three replicas on four connections, and all of them cut."""
    direct = database(tmp_path / "idsync.db")
    crowd = Crowd(gateway, LEAVERS)
    with pooler(SERVER, mode, size) as between, replicas(tmp_path, gateway, between.url(direct), count) as daemons:
        with Home(daemons[0].settings, working=False) as home:
            ids = {one.email: home.directory.hire(one.email).id for one in (*crowd.leavers, *crowd.staying)}
        gateway.ready()
        with Provider([daemon.scim for daemon in daemons], ids) as provider:
            provider.leave(crowd.leavers[: LEAVERS // 2])
            until(lambda: verified(direct) > 0, "the wave is under way")
            between.kill()
            between.start()
            provider.leave(crowd.leavers[LEAVERS // 2 :])
            until(lambda: verified(direct) == LEAVERS, "everybody is verified", 60.0)
        until(lambda: len(leaders(direct)) == 1, "one of them leads")
        for holder in crowd.leavers:
            gateway.assert_gone(holder)
        assert gateway.answers(crowd.bystanders) == {WORKS}
        assert_commands_work(daemons[0].settings, crowd.staying[0].email)
        for daemon in daemons:
            daemon.terminate()
        assert {daemon.exit_code() for daemon in daemons} == {0}
        for daemon in daemons:
            daemon.assert_discreet(*crowd.secrets)
    with read_only(direct) as db:
        assert (journal.unlinked(db), first_break(journal.events(db))) == (0, None)
        assert db.all("SELECT * FROM replicas") == db.all("SELECT * FROM leader") == []


def test_nothing_is_left_behind_on_the_one_connection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting of a session stays with the pooler's connection, and would meet whoever has it next."""
    direct = database(tmp_path / "idsync.db")
    with pooler(SERVER, "transaction", 1) as between:
        url = between.url(direct)
        with read_only(url) as db, db.snapshot() as still:
            assert still.all("SELECT * FROM users") == []
            with pytest.raises(StoreError, match="only"):
                db.execute("DELETE FROM users")
        with closing(store_of(url)) as store:
            store.open()
            store.write(lambda db: facts.put(db, "test", "kept", SystemClock().now()))
            assert facts.get(store.reader(), "test") is not None
            until(lambda: store.leads, "it leads")
            store.listen(lambda: None)
        assert "listener.pooled" in capsys.readouterr().out
        with psycopg.connect(url, autocommit=True) as connection:
            assert connection.execute("SELECT pg_listening_channels()").fetchall() == []
            assert connection.execute("SHOW default_transaction_read_only").fetchall() == [("off",)]


def test_a_pooler_by_statement_is_refused(tmp_path: Path, gateway: Gateway) -> None:
    direct = database(tmp_path / "idsync.db")
    with pooler(SERVER, "statement", 4) as between:
        settings = write_settings(tmp_path, gateway.sandbox.url, store={"url": between.url(direct)})
        for words in (["serve"], ["status"], ["freeze", "--reason", "test"]):
            done = idsync(settings, *words)
            assert done.code == 1, done.err
            assert "takes no transactions" in done.err
            assert "pool_mode = transaction" in done.err


def test_what_else_a_url_sends_at_the_start_is_named(tmp_path: Path, gateway: Gateway) -> None:
    """PgBouncer refuses parameters it does not know; ours are all known, one of the operator's may not be."""
    with pooler(SERVER, "transaction", 4) as between:
        url = f"{between.url(database(tmp_path / 'idsync.db'))}?options=-c%20work_mem%3D8MB"
        done = idsync(write_settings(tmp_path, gateway.sandbox.url, store={"url": url}), "serve")
    assert done.code == 1
    assert "unsupported startup parameter: options" in done.err
