"""What every store does with the work it is given: the same tests for a file and for a shared database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from functools import partial

import psycopg
import pytest

from idsync.errors import StoreError
from idsync.store import facts
from idsync.store.db import Db, Store
from idsync.store.opening import read_only, store_of
from idsync.store.queued import HEAD_START

from .batches import SOON, names, one_batch, put


def test_what_was_written_is_seen_by_readers_and_by_the_next_process(store: Store, url: str) -> None:
    assert store.write(lambda db: (put("a")(db), "answer")[1]) == "answer"
    assert facts.get(store.reader(), "a") == 1
    with read_only(url) as db:
        assert facts.get(db, "a") == 1


def test_nobody_sees_or_is_answered_what_is_not_committed_yet(store: Store) -> None:
    with one_batch(store) as first:
        assert names(store.reader()) == set()
        assert not first.done()
    first.result(SOON)
    assert names(store.reader()) == {"first"}


def test_failing_work_undoes_only_itself_in_a_shared_batch(store: Store) -> None:
    def fails(db: Db) -> None:
        facts.put(db, "wrong", 1, 0.0)
        raise KeyError("no")

    with one_batch(store):
        before, bad, after = store.submit(put("before")), store.submit(fails), store.submit(put("after"))
    with pytest.raises(KeyError):
        bad.result(SOON)
    before.result(SOON)
    after.result(SOON)
    assert names(store.reader()) == {"first", "before", "after"}


def test_a_statement_the_schema_refuses_undoes_only_its_own_work(store: Store) -> None:
    def fails(db: Db) -> None:
        facts.put(db, "wrong", 1, 0.0)
        db.execute("INSERT INTO facts (name) VALUES ('wrong')")

    with one_batch(store):
        bad, after = store.submit(fails), store.submit(put("after"))
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.NotNullViolation)):
        bad.result(SOON)
    after.result(SOON)
    assert names(store.reader()) == {"first", "after"}


def test_later_work_of_a_batch_sees_the_earlier_one(store: Store) -> None:
    with one_batch(store):
        store.submit(put("n", 1))
        seen = store.submit(lambda db: facts.get(db, "n"))
    assert seen.result(SOON) == 1


def test_whoever_stopped_waiting_does_not_stop_the_writer(store: Store) -> None:
    with one_batch(store):
        given_up = store.submit(put("given up"))
        assert given_up.cancel()
        after = store.submit(put("after"))
    after.result(SOON)
    assert names(store.reader()) == {"first", "after"}


def test_hooks_run_once_after_the_commit_and_never_for_undone_work(store: Store) -> None:
    ran: list[tuple[str, bool]] = []
    ended = threading.Event()

    def hook(name: str) -> None:
        ran.append((name, facts.get(store.reader(), "good") == 1))
        ended.set()

    def good(db: Db) -> None:
        db.after_commit(lambda: hook("good"))
        facts.put(db, "good", 1, 0.0)

    def bad(db: Db) -> None:
        db.after_commit(lambda: hook("bad"))
        raise KeyError("no")

    with one_batch(store):
        refused = store.submit(bad)
        store.submit(good)
        assert ran == []
    assert ended.wait(SOON)
    assert isinstance(refused.exception(SOON), KeyError)
    store.write(put("later"))
    assert ran == [("good", True)]


def test_writes_of_eight_threads_all_land(store: Store) -> None:
    def write(thread: int) -> None:
        for number in range(25):
            store.write(put(f"{thread}-{number}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(store.reader())) == 200


CLOSED_WHILE_READ = """
import sys, threading
from idsync.errors import StoreError
from idsync.store.opening import store_of
store = store_of(sys.argv[1])
store.open()
reading, told = threading.Barrier(5), []
def read():
    db = store.reader()
    reading.wait()
    try:
        while True:
            db.all("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i FROM n")
    except StoreError as error:
        told.append(str(error))
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
reading.wait()
store.close()
for thread in threads:
    thread.join()
print(*told, sep="\\n", file=sys.stderr)
"""


def test_whoever_reads_while_it_is_closed_is_told_so_and_the_process_lives(url: str) -> None:
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", CLOSED_WHILE_READ, url], capture_output=True, text=True)
        told = done.stderr.splitlines()
        assert (done.returncode, len(told)) == (0, 4), done.stderr
        assert set(told) <= {"the store is closed", "the store cannot be read: interrupted"}


def test_what_was_accepted_before_close_is_written(url: str) -> None:
    store = store_of(url)
    store.open()
    with one_batch(store):
        accepted = [store.submit(put(f"n{number}")) for number in range(200)]
    store.close()
    assert all(future.done() for future in accepted)
    with read_only(url) as db:
        assert len(names(db)) == 201


def test_a_write_after_close_is_refused(url: str) -> None:
    store = store_of(url)
    store.open()
    store.close()
    with pytest.raises(StoreError):
        store.submit(put("late")).result(0.2)


def test_what_somebody_waits_for_goes_first_but_overtakes_only_so_much(store: Store) -> None:
    order: list[str] = []
    with one_batch(store):
        for name in ["older"] + ["other"] * (HEAD_START - 1):
            store.submit(partial(_note, order, name))
        for name in ("first", "second"):
            store.submit(partial(_note, order, name), urgent=True)
    store.write(partial(_note, order, "last"))
    assert order == ["older", "first", "other", "second", *["other"] * (HEAD_START - 2), "last"]


def test_whoever_waits_does_not_wait_for_other_work_in_the_same_commit(store: Store) -> None:
    seen: list[bool] = []
    with one_batch(store):
        store.submit(put("before"))
        asked = store.submit(put("asked"), urgent=True)
        store.submit(lambda db: seen.append(asked.done()))
    store.write(put("last"))
    assert seen == [True]


def _note(order: list[str], name: str, _db: Db) -> None:
    order.append(name)
