"""A database that several processes share: they write as if one came after the other, and outlive each other's death.

These need a real server: `python tools/with_postgres.py --memory pytest tests/store`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from typing import Any

import psycopg
import pytest
from support.editor import edit
from support.endpoint import PATCH_OP, USER, Client, serving
from support.postgres import postgres
from support.stores import SERVER, database, url_of
from support.waiting import until

from idsync.audit import first_break
from idsync.clock import SystemClock
from idsync.errors import StoreError
from idsync.model import Lane
from idsync.store import facts, jobs, journal
from idsync.store.db import Db, Store
from idsync.store.opening import read_only, store_of
from idsync.store.postgres import LINK_LOCK, PostgresStore
from idsync.store.turns import in_turn
from idsync.web.auth import ScimSource

from .batches import SOON, names, one_batch, put

pytestmark = pytest.mark.skipif(not SERVER, reason="needs a PostgreSQL: tools/with_postgres.py starts one")
LEAD_WITHIN = 10.0
"""Seconds after a death by which another one leads (issue 8, R3)."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database(tmp_path / "idsync.db")


@contextmanager
def opened(url: str, role: str = "all") -> Iterator[PostgresStore]:
    store = PostgresStore(url, role=role)
    store.open()
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def two(url: str) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """Two stores on one database, as two processes have them."""
    with opened(url) as one, opened(url) as other:
        yield one, other


@pytest.fixture
def store(two: tuple[PostgresStore, PostgresStore]) -> PostgresStore:
    return two[0]


# -- as if one had come after the other --------------------------------------------------------------------------------


def raise_counter(db: Db) -> None:
    facts.put(db, "counter", (facts.get(db, "counter") or 0) + 1, 0.0)


def test_what_many_raise_in_two_processes_ends_at_the_sum(two: tuple[Store, Store]) -> None:
    """Read, then write: neither overwrites what the other one has counted."""
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: two[number % 2].write(raise_counter), range(160)))
    assert facts.get(two[0].reader(), "counter") == 160


def test_two_who_each_look_at_what_the_other_one_changes_do_not_both_go_on(two: tuple[Store, Store]) -> None:
    """Write skew: each lets go of its own because the other one is still there; one of them must find itself alone."""
    for name in ("ada", "bob"):
        two[0].write(put(name, "there"))
    both_have_looked = threading.Barrier(2)

    def leave(name: str) -> Callable[[Db], bool]:
        tries = itertools.count()

        def work(db: Db) -> bool:
            others = names(db) - {name}
            if next(tries) == 0:
                both_have_looked.wait(SOON)
            if others:
                facts.drop(db, name)
            return bool(others)

        return work

    left = [store.submit(leave(name)) for store, name in zip(two, ("ada", "bob"), strict=True)]
    assert sorted(future.result(SOON) for future in left) == [False, True]
    assert len(names(two[0].reader())) == 1


def test_a_batch_that_met_another_is_done_again_whole_and_its_hooks_run_once(two: tuple[Store, Store]) -> None:
    ran: list[str] = []
    told: list[str] = []
    seen, go = threading.Event(), threading.Event()

    def piece(name: str, work: Callable[[Db], object]) -> Future[None]:
        def run(db: Db) -> None:
            ran.append(name)
            db.after_commit(lambda: told.append(name))
            work(db)

        return two[0].submit(run)

    def look(db: Db) -> None:
        facts.get(db, "counter")
        seen.set()
        go.wait(SOON)

    pieces = [piece("look", look)]
    assert seen.wait(SOON)
    pieces += [piece("between", put("between")), piece("raise", raise_counter)]
    two[1].write(raise_counter)
    go.set()
    for done in pieces:
        done.result(SOON)
    assert facts.get(two[0].reader(), "counter") == 2
    assert len(ran) > len(told)
    assert ran[-3:] == told == ["look", "between", "raise"]


def test_a_key_that_is_there_twice_is_an_error_of_that_piece_alone(store: PostgresStore) -> None:
    """It may be another process that was faster; done again it is there still, and then it counts as what it says."""

    def twice(db: Db) -> None:
        facts.put(db, "wrong", 1, 0.0)
        for _ in range(2):
            db.execute("INSERT INTO facts (name, value, at) VALUES ('key', '1', 0.0)")

    with one_batch(store):
        before, bad, after = store.submit(put("before")), store.submit(twice), store.submit(put("after"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        bad.result(SOON)
    before.result(SOON)
    after.result(SOON)
    assert names(store.reader()) == {"first", "before", "after"}


def test_a_value_that_no_index_takes_is_an_error_of_that_piece_alone(store: PostgresStore) -> None:
    """PostgreSQL counts it among the errors of a server that is in trouble."""
    long = "".join(Random(1).choices(ascii_letters + digits, k=5000))
    with one_batch(store):
        before, bad, after = (store.submit(put(name)) for name in ("before", long, "after"))
    with pytest.raises(StoreError, match="too long"):
        bad.result(SOON)
    before.result(SOON)
    after.result(SOON)
    assert names(store.reader()) == {"first", "before", "after"}


def test_whoever_is_second_to_use_a_key_finds_what_the_first_has_written(two: tuple[Store, Store]) -> None:
    """As two replicas do that were sent the same new user: a look, then an insert."""
    both_have_looked = threading.Barrier(2)

    def join(_: Store) -> Callable[[Db], bool]:
        tries = itertools.count()

        def work(db: Db) -> bool:
            there = facts.get(db, "ada") is not None
            if next(tries) == 0:
                both_have_looked.wait(SOON)
            if not there:
                db.execute("INSERT INTO facts (name, value, at) VALUES ('ada', '1', 0.0)")
            return not there

        return work

    assert sorted(future.result(SOON) for future in [store.submit(join(store)) for store in two]) == [False, True]


def test_what_only_reads_refuses_to_write(store: PostgresStore, url: str) -> None:
    with pytest.raises(StoreError, match="reads only"):
        put("a")(store.reader())
    with read_only(url) as db, pytest.raises((StoreError, psycopg.errors.ReadOnlySqlTransaction)):
        put("a")(db)
    with store.reader().snapshot() as db, pytest.raises((StoreError, psycopg.errors.ReadOnlySqlTransaction)):
        put("a")(db)
    assert names(store.reader()) == set()


# -- the trail -----------------------------------------------------------------------------------------------------------


def note(number: int) -> Callable[[Db], None]:
    return lambda db: journal.append(db, at=1.0, actor="okta", action="test", subject=str(number), detail={"n": number})


def test_the_entries_of_two_become_one_whole_chain(url: str) -> None:
    """Whoever links them, and though nobody is left who would: closing a store links what it has written."""
    with opened(url) as one, opened(url) as other, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: (one, other)[number % 2].write(note(number)), range(200)))
    with read_only(url) as db:
        assert journal.unlinked(db) == 0
        found = list(journal.events(db))
    assert first_break(found) is None
    assert [entry.seq for entry in found] == list(range(1, 201))
    assert {entry.subject for entry in found} == {str(number) for number in range(200)}


def test_who_is_kept_from_linking_writes_on_and_links_at_the_latest_when_closed(url: str) -> None:
    with opened(url) as store, psycopg.connect(url) as another:
        another.execute("SELECT pg_advisory_xact_lock(%s)", (LINK_LOCK,))
        for number in range(10):
            store.write(note(number))
        assert (journal.unlinked(store.reader()), list(journal.events(store.reader()))) == (10, [])
    with read_only(url) as db:
        found = list(journal.events(db))
    assert [entry.subject for entry in found] == [str(number) for number in range(10)]
    assert first_break(found) is None


COPY = "SELECT {}, at, actor, action, subject, detail, prev, hash FROM audit WHERE seq = 3"
REWRITES = [
    "UPDATE audit SET subject = 'eve' WHERE seq = 3",
    "UPDATE audit SET seq = 99 WHERE seq = 3",
    "DELETE FROM audit WHERE seq = 5",
    "DELETE FROM audit",
    f"INSERT INTO audit {COPY.format(99)}",
    f"INSERT INTO audit {COPY.format(0)}",
    "INSERT INTO audit SELECT * FROM audit WHERE seq = 5 ON CONFLICT (seq) DO UPDATE SET subject = 'eve'",
    "INSERT INTO audit_checkpoints (seq, hash, entries, sha256, at) VALUES (3, 'no such hash', 3, '', 0.0)",
    "UPDATE audit_checkpoints SET seq = 5",
    "DELETE FROM audit_checkpoints",
]


def _executed(statement: str, db: Db) -> int:
    return db.execute(statement)


def test_whatever_would_rewrite_the_trail_is_refused(store: PostgresStore, url: str) -> None:
    for number in range(5):
        store.write(note(number))
    sealed = "INSERT INTO audit_checkpoints (seq, hash, entries, sha256, at) SELECT seq, hash, 1, '', 0.0 FROM audit"
    store.write(lambda db: db.execute(f"{sealed} WHERE seq = 1"))
    for statement in REWRITES:
        with pytest.raises(psycopg.errors.RaiseException, match="the audit trail only grows"):
            edit(url, statement, guarded=True)
        with pytest.raises(psycopg.errors.RaiseException, match="the audit trail only grows"):
            store.write(partial(_executed, statement))
    found = list(journal.events(store.reader()))
    assert (len(found), first_break(found)) == (5, None)
    assert store.write(lambda db: journal.take_exported(db, 10)) == 1  # below the checkpoint it may go


# -- sizes and types -------------------------------------------------------------------------------------------------------

HOSTILE = {
    "NUL": '"a\\u0000b"',
    "a lone surrogate": '"a\\ud800b"',
    "2**63": "9223372036854775808",
    "-2**63-1": "-9223372036854775809",
    "2**63-1": "9223372036854775807",
    "1e400": "1e400",
}
PLACES = [
    '"userName": {}',
    '"userName": "x", "title": {}',
    '"userName": "x", "externalId": {}',
    '"userName": "x", {}: 1',
]


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """The same endpoint on both stores."""
    folder = tmp_path_factory.mktemp("both")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(folder, ScimSource("okta"), url=url)).clients["okta"]
            for name, url in (("file", url_of(folder / "f.db", shared=False)), ("shared", database(folder / "s.db")))
        }


@pytest.mark.parametrize("what", HOSTILE)
def test_both_stores_refuse_the_same_and_keep_the_same(endpoints: dict[str, Client], what: str) -> None:
    """D8. What is not refused is read back alike, and found by a filter alike."""

    def answers(client: Client) -> list[Any]:
        found: list[Any] = []
        made = client.user(f"ada-{what}", externalId="ada")["id"]
        for place in PLACES:
            body = '{"schemas": ["' + USER + '"], ' + place.format(HOSTILE[what]) + "}"
            got = client.send("POST", "/Users", body.encode())
            found.append((got.status, shown(got.json)))
            change = {"op": "replace", "path": "title", "value": "?"}
            patch = json.dumps({"schemas": [PATCH_OP], "Operations": [change]}).replace('"?"', HOSTILE[what])
            got = client.send("PATCH", f"/Users/{made}", patch.encode())
            found.append((got.status, shown(got.json)))
        for path in (
            f"/Users/{made}",
            "/Users?filter=title+eq+%22a%00b%22",
            "/Users/a%00b",
            "/Users?count=9223372036854775808",
        ):
            got = client.get(path)
            found.append((got.status, shown(got.json)))
        for user in client.get("/Users").json["Resources"]:
            assert client.send("DELETE", f"/Users/{user['id']}").status == 204
        return found

    by_file, by_database = answers(endpoints["file"]), answers(endpoints["shared"])
    assert by_database == by_file
    assert all(status < 500 for status, _ in by_file)


def shown(answer: Any) -> Any:
    """Return an answer without what is never twice the same."""
    if isinstance(answer, dict):
        return {name: shown(value) for name, value in answer.items() if name not in {"id", "meta"}}
    return [shown(entry) for entry in answer] if isinstance(answer, list) else answer


# -- the database's clock ----------------------------------------------------------------------------------------------


class Astray(SystemClock):
    """The clock of a machine that is an hour ahead."""

    def now(self) -> float:
        return super().now() + 3600.0


def test_a_lease_is_kept_and_ends_by_the_clock_of_the_database(two: tuple[PostgresStore, PostgresStore]) -> None:
    right, astray = two[0].clock(SystemClock()), two[1].clock(Astray())
    told = two[0].reader().one("SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8 AS now")
    assert told is not None
    assert [clock.now() for clock in (right, astray)] == pytest.approx([told["now"]] * 2, abs=5.0)

    def claim(store: Store, now: float) -> list[jobs.Job]:
        return store.write(lambda db: jobs.claim(db, Lane.REVOKE, store.name, now, lease=60.0, limit=10))

    two[0].write(lambda db: _a_job(db, right.now() - 1.0))
    assert len(claim(two[0], right.now())) == 1
    assert claim(two[1], astray.now()) == []  # by its own clock the lease would have ended long ago
    assert len(claim(two[1], astray.now() + 61.0)) == 1


def _a_job(db: Db, now: float) -> None:
    jobs.open_job(db, "p1", Lane.REVOKE, 1, now)


# -- the lead ---------------------------------------------------------------------------------------------------------------

LEADER = """
import sys
from idsync.clock import SystemClock
from idsync.model import Lane
from idsync.store import jobs
from idsync.store.postgres import PostgresStore
store = PostgresStore(sys.argv[1])
store.open()
assert store.leads and store.take_turn("poll:okta")
now = store.clock(SystemClock()).now()
assert store.write(lambda db: jobs.claim(db, Lane.REVOKE, store.name, now, 600.0, 1))
print("leads", file=sys.stderr, flush=True)
input()
"""


def test_the_lead_a_place_and_jobs_pass_to_another_when_one_dies(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(url, role="web") as filling:
        filling.write(lambda db: _a_job(db, 0.0))
    dying = subprocess.Popen(
        [sys.executable, "-c", LEADER, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert dying.stderr is not None
        assert dying.stderr.readline() == "leads\n", dying.stderr.read()
        with opened(url) as other, opened(url, role="web") as web:
            assert not other.leads
            assert not other.take_turn("poll:okta")
            dying.send_signal(signal.SIGKILL)
            began = time.monotonic()
            until(lambda: other.leads, "another one leads", seconds=LEAD_WITHIN)
            led = time.monotonic() - began
            until(lambda: other.take_turn("poll:okta"), "the place is free", seconds=LEAD_WITHIN)
            until(lambda: _is_free(other.reader()), "its job is free", seconds=LEAD_WITHIN)
            assert not web.leads  # what only serves never leads
            assert not web.take_turn("poll:okta")
            other.end_turn("poll:okta")
            assert web.take_turn("poll:okta")
    finally:
        dying.kill()
        dying.communicate()
    with capsys.disabled():
        print(f"\nthe lead was taken {led:.1f} s after kill -9, all was free after {time.monotonic() - began:.1f} s")


def _is_free(db: Db) -> bool:
    job = jobs.get(db, "p1")
    return job is not None and not job.leased


def test_whoever_goes_gives_the_lead_back(url: str) -> None:
    with opened(url) as other, opened(url) as waiting:
        assert (other.leads, waiting.leads) == (True, False)
        other.close()
        for told in ("SELECT id FROM replicas WHERE id = :id", "SELECT place FROM leader WHERE replica_id = :id"):
            assert waiting.reader().all(told, id=other.name) == []
        until(lambda: waiting.leads, "the other one leads", seconds=LEAD_WITHIN)
        assert not other.leads


def test_a_database_without_a_store_says_how_one_is_made(url: str) -> None:
    name = f"{url.rpartition('/')[2]}_empty"
    with psycopg.connect(SERVER, autocommit=True) as other:
        other.execute(f"CREATE DATABASE {name}".encode())
    with (
        pytest.raises(StoreError, match=r"there is no store in .* yet; start `idsync serve` once"),
        read_only(f"{url}_empty"),
    ):
        pass
    with opened(f"{url}_empty") as store:
        store.write(put("a"))
    with read_only(f"{url}_empty") as db:
        assert names(db) == {"a"}


# -- a server that dies, and one that is not fit ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A server that tests may kill."""
    with postgres(in_memory=True) as running:
        yield running


def test_a_server_that_died_is_used_again_and_has_lost_nothing_it_had_acknowledged(server: Any) -> None:
    with opened(server.url) as store:
        acknowledged: set[str] = set()
        numbers, stopping = itertools.count(), threading.Event()

        def write_on() -> None:
            while not stopping.is_set():
                name = f"n{next(numbers)}"
                with contextlib.suppress(StoreError):
                    store.write(put(name))
                    acknowledged.add(name)

        threads = [threading.Thread(target=write_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                _until_more(acknowledged)
                server.kill()
                with pytest.raises(StoreError):
                    names(store.reader())
                server.start()
                until(lambda: _reads(store), "reads go on")
            _until_more(acknowledged)
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
        assert acknowledged <= names(store.reader())
        until(lambda: store.leads, "it leads again")


def test_a_server_that_died_while_nobody_wrote_is_written_to_again(server: Any) -> None:
    with opened(server.url) as store:
        store.write(put("before"))
        server.kill()
        looked = store.linked_at
        until(lambda: store.linked_at > looked, "the writer has met the dead server")
        server.start()
        until(lambda: _reads(store), "reads go on")
        until(lambda: _writes(store, "after"), "writes go on")
        assert names(store.reader()) >= {"before", "after"}


def _writes(store: Store, name: str) -> bool:
    try:
        store.submit(put(name)).result(10)
    except StoreError:
        return False
    return True


def _until_more(acknowledged: set[str]) -> None:
    before = len(acknowledged)
    until(lambda: len(acknowledged) > before + 50, "writes go on")


def _reads(store: Store) -> bool:
    with contextlib.suppress(StoreError):
        return bool(names(store.reader()))
    return False


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ("ALTER DATABASE {} SET synchronous_commit = off", r"synchronous_commit = off: .*set synchronous_commit = on"),
        ("ALTER DATABASE {} SET default_transaction_read_only = on", r"transaction_read_only = on: .*point store\.url"),
        (
            "CREATE DATABASE {}_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
            r"server_encoding = LATIN1: .*'UTF8'",
        ),
    ],
)
def test_a_database_that_is_not_fit_is_refused(url: str, made: str, sentence: str) -> None:
    name = url.rpartition("/")[2]
    with psycopg.connect(SERVER, autocommit=True) as other:
        other.execute(made.format(name).encode())
    unfit = f"{url}_latin" if "_latin" in made else url
    with pytest.raises(StoreError, match=sentence), opened(unfit):
        pass


def test_a_server_that_forgets_or_follows_another_is_refused(server: Any) -> None:
    server.stop()
    server.start(fsync="off")
    with pytest.raises(StoreError, match=r"fsync = off: .*set fsync = on"), opened(server.url):
        pass
    server.stop()
    (server.folder / "data" / "standby.signal").touch()
    server.start()
    with pytest.raises(
        StoreError, match=r"transaction_read_only = on: it is a standby.*point store\.url at the primary"
    ):
        store_of(server.url).open()


def test_a_server_that_is_too_old_is_refused(url: str) -> None:
    """It is the real one, but for the version that it names: a line in between says 13 instead."""
    with older_server() as port, pytest.raises(StoreError, match="PostgreSQL 13 is too old; idsync needs 14 or newer"):
        store_of(f"postgresql://postgres@127.0.0.1:{port}/{url.rpartition('/')[2]}").open()


@contextmanager
def older_server() -> Iterator[int]:
    host, port = SERVER.split("@")[1].split("/")[0].split(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = threading.Thread(target=_pass_on, args=(listener, (host, int(port))), daemon=True)
        line.start()
        yield listener.getsockname()[1]
        line.join()


def _pass_on(listener: socket.socket, to: tuple[str, int]) -> None:
    """Pass on one connection, and what the server says of itself with another version in it."""
    client, _ = listener.accept()
    with client, socket.create_connection(to) as server:
        back = threading.Thread(target=_copy, args=(client, server), daemon=True)
        back.start()
        _copy(server, client, lambda data: data.replace(b"server_version\x0015", b"server_version\x0013"))
        back.join()


def _copy(come: socket.socket, go: socket.socket, change: Callable[[bytes], bytes] = bytes) -> None:
    with contextlib.suppress(OSError):
        while data := come.recv(65536):
            go.sendall(change(data))
        go.shutdown(socket.SHUT_WR)


def test_who_lost_a_place_or_a_job_to_another_writes_nothing_more(two: tuple[PostgresStore, PostgresStore]) -> None:
    """A replica that stood still does not know it: what it read is older than what the other one has done since."""
    stood, other = two
    assert stood.take_turn("poll:okta")
    stood.write(in_turn(stood, "poll:okta", put("mine")))
    other.write(lambda db: db.execute("UPDATE leader SET until = 0 WHERE place = 'poll:okta'"))
    assert other.take_turn("poll:okta")
    with pytest.raises(StoreError, match="another process has taken over"):
        stood.write(in_turn(stood, "poll:okta", put("late")))
    other.write(in_turn(other, "poll:okta", put("theirs")))
    assert names(stood.reader()) >= {"mine", "theirs"}
    assert "late" not in names(stood.reader())

    stood.write(lambda db: jobs.open_job(db, "p", Lane.REVOKE, 1, 0.0))
    stood.write(lambda db: jobs.claim(db, Lane.REVOKE, stood.name, 1.0, 60.0, 1))
    assert jobs.is_owned(stood.reader(), "p", stood.name)
    other.write(lambda db: jobs.release(db, "p", stood.name, 1.0))
    other.write(lambda db: jobs.claim(db, Lane.REVOKE, other.name, 2.0, 60.0, 1))
    assert not jobs.is_owned(stood.reader(), "p", stood.name)
