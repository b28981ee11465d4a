"""SQLite as the ground: what is answered is on disk, work undoes only itself, one process holds the file."""

from __future__ import annotations

import importlib.resources
import json
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.waiting import until

from idsync.errors import StoreBusy, StoreError
from idsync.store import called, exposure, journal, ledger
from idsync.store.db import Db
from idsync.store.sqlite import WAL_LIMIT, SqliteStore, backup, inspect, path_of, read_only

from .batches import SOON, names, one_batch, put

pytestmark = pytest.mark.needs_file("the store of one file itself")

# -- connections --------------------------------------------------------------------------------------------------


def test_every_connection_syncs_in_full_and_readers_cannot_write(store: SqliteStore) -> None:
    def pragma(name: str) -> Callable[[Db], Any]:
        return lambda db: next(iter(db.one(f"PRAGMA {name}") or ()))

    assert store.write(pragma("synchronous")) == 2
    assert store.write(pragma("journal_mode")) == "wal"
    assert store.write(pragma("foreign_keys")) == 1
    assert pragma("synchronous")(store.reader()) == 2
    assert pragma("query_only")(store.reader()) == 1
    assert pragma("wal_autocheckpoint")(store.reader()) == 0
    with pytest.raises(StoreError, match="readonly"):
        put("a")(store.reader())


def test_a_thread_has_a_reader_of_its_own_and_keeps_it(store: SqliteStore) -> None:
    here = store.reader()
    there: list[Db] = []
    thread = threading.Thread(target=lambda: there.append(store.reader()))
    thread.start()
    thread.join()
    assert store.reader() is here
    assert there[0] is not here


def test_the_file_is_for_its_owner_alone(store: SqliteStore) -> None:
    files = [store.path, store.path.with_name("idsync.db.lock")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]


@pytest.mark.parametrize("folder", ["with space", "q?x=1", "h#x", "ümläut"])
def test_the_store_may_lie_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    _write_and_read(tmp_path / folder)


def test_the_store_may_lie_in_a_folder_with_a_percent_sign(tmp_path: Path) -> None:
    _write_and_read(tmp_path / "100%41")


@pytest.mark.parametrize("folder", ["q?x=1", "h#x"])
def test_the_backup_of_a_store_in_a_folder_of_any_name_is_that_store(tmp_path: Path, folder: str) -> None:
    _write_and_read(tmp_path / folder)
    backup(f"sqlite:///{tmp_path / folder / 'idsync.db'}", tmp_path / "copy.db")
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    assert "facts: 1 row" in inspect(copy).lines


def _write_and_read(folder: Path) -> None:
    store = SqliteStore(f"sqlite:///{folder / 'idsync.db'}")
    store.open()
    store.write(put("a"))
    store.close()
    assert (folder / "idsync.db").stat().st_size > 0
    with read_only(f"sqlite:///{folder / 'idsync.db'}") as db:
        assert names(db) == {"a"}


# -- one process --------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from idsync.errors import IdsyncError
from idsync.store import facts
from idsync.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
try:
    store.open()
except IdsyncError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
store.write(lambda db: facts.put(db, "child", 1, 0.0))
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the store."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_second_process_is_refused_while_we_hold_the_store(store: SqliteStore, url: str) -> None:
    with holder(url) as child:
        assert said(child).startswith("StoreBusy another idsync process holds the store")
        assert child.wait() == 7


def test_we_are_refused_while_another_process_holds_it_and_taken_in_once_it_was_killed(url: str) -> None:
    store = SqliteStore(url)
    with holder(url) as child:
        assert said(child) == "open"
        with pytest.raises(StoreBusy):
            store.open()
        child.kill()
        child.wait()
        store.open()
    assert names(store.reader()) == {"child"}
    store.close()


def test_the_store_can_be_opened_again_after_a_close(url: str) -> None:
    for number in range(3):
        store = SqliteStore(url)
        store.open()
        store.write(put(f"n{number}"))
        store.close()
    with read_only(url) as db:
        assert names(db) == {"n0", "n1", "n2"}


# -- what cannot be opened ----------------------------------------------------------------------------------------


def test_an_empty_file_gets_the_whole_schema(tmp_path: Path, url: str) -> None:
    (tmp_path / "idsync.db").touch()
    store = SqliteStore(url)
    store.open()
    tables = {row["name"] for row in store.reader().all("SELECT name FROM sqlite_master WHERE type = 'table'")}
    store.close()
    expected = {"users", "groups", "memberships", "pending_members", "persons", "person_accounts", "grants", "tokens"}
    expected |= {"blocked_keys", "bindings", "bans", "conflicts", "departures", "jobs", "holds", "hold_items", "audit"}
    assert tables >= expected


def sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def damage(path: Path) -> None:
    """Overwrite every page but the first two, as a bad disk would."""
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192))


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path, store: SqliteStore, url: str) -> None:
    store.close()
    later = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('idsync', '9999_later', '2099')"
    sql(tmp_path / "idsync.db", later)
    with pytest.raises(StoreError, match=r"newer release \(9999_later\); upgrade idsync"):
        SqliteStore(url).open()
    sql(tmp_path / "idsync.db", "DELETE FROM _sqlite_migrations WHERE name = '9999_later'")
    store.open()


OLD_USERS = [  # (id, userName, its old key, displayName, emails)
    ("u1", "ANN", "ann", "\u00c9va", ["a@example.com", "Second@Example.com"]),
    ("u2", "e\u0301", "e\u0301", None, []),  # decomposed: found as one character now
    ("u3", "x\u00e9", "x\u00e9", "", []),
    ("u4", "xe\u0301", "xe\u0301", None, []),  # the same name as u3 as this release compares them: keeps its key
]


def test_a_store_of_the_first_release_is_brought_up_to_date(tmp_path: Path, url: str) -> None:
    """Departures count as the guard counted them then, addresses and names are found as this release compares them."""
    migrations = importlib.resources.files("idsync.store") / "migrations"
    connection = sqlite3.connect(tmp_path / "idsync.db")
    connection.executescript((migrations / "0001_initial.sql").read_text("utf-8"))
    connection.executescript(
        "CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT,"
        " PRIMARY KEY (migration_set, name));"
        "INSERT INTO _sqlite_migrations VALUES ('idsync', '0001_initial', '2026-11-23');"
        "INSERT INTO persons (id, label, generation, ever_had_access, created_at)"
        " VALUES ('p1', 'ada', 1, 1, 0), ('p2', 'bob', 1, 0, 0);"
        "INSERT INTO departures (id, person_id, label, kind, evidence, cause, source, state, received_at, accepted_at,"
        " pushed_at, delete_at, receipt) SELECT 'd-' || id, id, label, 'departure', 'scim_inactive', '', 'okta',"
        " 'accepted', 5, 5, 5, 5, '{}' FROM persons;"
        "INSERT INTO facts VALUES ('team:data', '\"t-1\"', 1);"
        "INSERT INTO grants (person_id, team, state, since, lost_at) VALUES"
        " ('p1', 'data', 'leaving', 1, 7), ('p1', 'unknown', 'leaving', 1, 7), ('p2', 'data', 'granted', 1, NULL)"
    )
    connection.executemany(
        "INSERT INTO users (id, source, user_name, user_name_key, active, display_name, doc, person_id, observation,"
        " observed_at, created_at, updated_at, version) VALUES (?, 'okta', ?, ?, 1, ?, ?, 'p1', 'present', 1, 1, 1, 1)",
        [
            (one, name, key, shown, json.dumps({"userName": name, "emails": [{"value": email} for email in emails]}))
            for one, name, key, shown, emails in OLD_USERS
        ],
    )
    connection.commit()
    connection.close()
    store = SqliteStore(url)
    store.open()
    try:
        assert ledger.pushed_since(store.reader(), "okta", 0.0) == 1
        assert len(ledger.open_departures(store.reader())) == 2
        assert exposure.teams_left(store.reader(), "p1") == {"t-1"}
        assert exposure.teams_left(store.reader(), "p2") == set()
        found = {row["id"]: row for row in store.reader().all("SELECT * FROM users")}
        assert found["u1"]["display_key"] == "\u00e9va"
        assert [found[one]["user_name_key"] for one in ("u2", "u3", "u4")] == ["\u00e9", "x\u00e9", "xe\u0301"]
        keys = store.reader().all("SELECT email_key FROM user_emails WHERE user_id = 'u1' ORDER BY email_key")
        assert [row["email_key"] for row in keys] == ["a@example.com", "second@example.com"]
        first = {(name.kind, name.source, name.name) for name in called.names(store.reader(), "p1")}
        assert first >= {("user_name", "okta", "ANN"), ("user_name", "", "ada")}
        assert called.persons(store.reader(), "X\u00c9", "user_name") == ["p1"]
    finally:
        store.close()


def test_a_damaged_file_is_refused_and_the_lock_given_back(tmp_path: Path, store: SqliteStore, url: str) -> None:
    store.close()
    damage(tmp_path / "idsync.db")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"damaged|cannot open the store"):
            SqliteStore(url).open()


def test_a_store_of_which_only_rows_are_damaged_is_refused_before_it_is_used(store: SqliteStore, url: str) -> None:
    for number in range(200):
        store.write(put(f"n{number}", "x" * 200))
    store.close()
    with store.path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xa5" * 4096)
    with pytest.raises(StoreError, match=r"(?s)the store is damaged \(.*\); restore a backup before starting"):
        SqliteStore(url).open()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "idsync.db").write_text("this is not a database, it is a text of some length\n" * 50)
    with pytest.raises(StoreError, match=r"cannot open the store .*idsync\.db: file is not a database"):
        SqliteStore(url).open()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot create the folder of the store .*file"):
        SqliteStore(f"sqlite:///{tmp_path}/file/idsync.db").open()


def test_a_lock_file_that_cannot_be_opened_is_an_error_of_the_store(tmp_path: Path, url: str) -> None:
    (tmp_path / "idsync.db.lock").mkdir()
    with pytest.raises(StoreError, match="lock"):
        SqliteStore(url).open()


@pytest.mark.parametrize("url", ["postgresql://db/idsync", "mysql://x", "idsync.db"])
def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="use sqlite:"):
        path_of(url)


def test_there_is_nothing_to_read_before_there_is_a_store(url: str) -> None:
    with pytest.raises(StoreError, match="there is no store at"), read_only(url):
        pass
    with pytest.raises(StoreError, match="there is no store at"):
        inspect(url)


# -- a full disk --------------------------------------------------------------------------------------------------


def limit(store: SqliteStore, pages: int) -> None:
    store.write(lambda db: db.one(f"PRAGMA max_page_count = {pages}"))


def many_entries(db: Db) -> None:
    """Write where there are triggers: SQLite undoes the one statement there, not all."""
    for _ in range(3000):
        journal.append(db, at=0.0, actor="a", action="b", subject="c", detail={})


def test_a_full_disk_refuses_the_write_and_keeps_everything_else(store: SqliteStore) -> None:
    store.write(put("kept"))
    limit(store, 1)  # SQLite takes the size the file has now for the limit
    big = "x" * 1_000_000
    for work in (put("big", big), many_entries):
        with pytest.raises(StoreError, match=r"the store refused a write: .*full"):
            store.write(work)
    assert names(store.reader()) == {"kept"}
    assert list(journal.events(store.reader())) == []
    limit(store, 1_000_000)
    store.write(put("big", big))
    assert names(store.reader()) == {"kept", "big"}


def test_on_a_full_disk_nobody_of_the_batch_is_told_yes_without_being_on_disk(store: SqliteStore) -> None:
    limit(store, 1)
    with one_batch(store) as first:
        futures = {name: store.submit(put(name, "x" * size)) for name, size in (("a", 1), ("big", 10**6), ("b", 1))}
    futures["first"] = first
    told = {name for name, future in futures.items() if future.exception(SOON) is None}
    assert told == names(store.reader())
    assert "big" not in told


# -- the log ------------------------------------------------------------------------------------------------------


@contextmanager
def long_reader(url: str) -> Iterator[None]:
    """Somebody who looks at the store as it was, for as long as the block lasts."""
    with read_only(url) as db:
        db.execute("BEGIN")
        names(db)
        yield
        db.execute("COMMIT")


def log_of(store: SqliteStore) -> int:
    return store.path.with_name("idsync.db-wal").stat().st_size


@pytest.fixture
def idle(url: str) -> Iterator[SqliteStore]:
    """A store that tidies as soon as nobody writes."""
    made = SqliteStore(url, idle=0.02)
    made.open()
    yield made
    made.close()


def test_a_log_that_grew_under_a_long_reader_is_cut_when_nobody_writes(idle: SqliteStore, url: str) -> None:
    with long_reader(url):
        for number in range(7):
            idle.write(put(f"n{number}", "x" * 10 * 1024 * 1024))
        assert log_of(idle) > WAL_LIMIT
        idle.write(put("while he reads"))
    until(lambda: log_of(idle) <= WAL_LIMIT, "the log is small again", told=lambda: log_of(idle))
    assert names(idle.reader()) == {f"n{number}" for number in range(7)} | {"while he reads"}


def test_a_log_that_grew_is_cut_by_the_next_commits_as_well(store: SqliteStore, url: str) -> None:
    """While somebody writes all the time, there is no idle moment."""
    with long_reader(url):
        for number in range(7):
            store.write(put(f"n{number}", "x" * 10 * 1024 * 1024))
    for number in range(3):
        store.write(put("on and on", number))
    assert log_of(store) <= WAL_LIMIT


def test_what_was_written_is_in_the_file_once_nobody_writes(idle: SqliteStore, tmp_path: Path) -> None:
    idle.write(put("a", "x" * 1000))
    until(lambda: b"x" * 1000 in (tmp_path / "idsync.db").read_bytes(), "the log was brought into the file")
    idle.write(put("b"))
    assert names(idle.reader()) == {"a", "b"}


# -- backup and check ---------------------------------------------------------------------------------------------


def test_a_backup_of_a_store_in_use_is_whole(store: SqliteStore, url: str, tmp_path: Path) -> None:
    store.write(put("before"))
    target = tmp_path / "copy.db"
    with one_batch(store):
        backup(url, target)
    copy = SqliteStore(f"sqlite:///{target}")
    copy.open()
    assert names(copy.reader()) == {"before"}
    copy.close()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_backup_never_overwrites(store: SqliteStore, url: str, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StoreError, match="never overwrites"):
        backup(url, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_backup_that_cannot_be_written_says_so_and_leaves_nothing(
    store: SqliteStore, url: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="cannot back up"):
        backup(url, tmp_path / "absent" / "copy.db")
    with pytest.raises(StoreError, match="there is no store"):
        backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_check_reads_every_page(store: SqliteStore, url: str, tmp_path: Path) -> None:
    store.write(put("a"))
    report = inspect(url)
    assert report.sound
    assert "facts: 1 row" in report.lines
    assert report.lines[0].startswith(f"SQLite {sqlite3.sqlite_version}")


@pytest.mark.parametrize("look", [inspect, lambda url: _peek(url)], ids=["inspect", "read_only"])
def test_a_file_that_is_no_store_is_told_to_whoever_reads_it(
    tmp_path: Path, url: str, look: Callable[[str], object]
) -> None:
    (tmp_path / "idsync.db").write_text("this is not a database, it is a text of some length\n" * 50)
    with pytest.raises(StoreError, match="file is not a database"):
        look(url)


@pytest.mark.parametrize("look", [inspect, lambda url: _peek(url)], ids=["inspect", "read_only"])
def test_damaged_pages_are_told_to_whoever_reads_them(
    tmp_path: Path, store: SqliteStore, url: str, look: Callable[[str], object]
) -> None:
    store.close()
    damage(tmp_path / "idsync.db")
    try:
        sound = getattr(look(url), "sound", True)
    except StoreError:
        sound = False
    assert not sound


def _peek(url: str) -> None:
    with read_only(url) as db:
        names(db)
