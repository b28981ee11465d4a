"""Putting a backup in the place of the store: prepared beside it, then exchanged in one step."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from idsync.errors import StoreError
from idsync.store import facts, journal
from idsync.store.beside import BESIDE, owned_alike, remove, sync
from idsync.store.db import Db
from idsync.store.sqlite import FileLock, SqliteStore, backup, inspect, path_of

REASON = "restored from a backup: who left since then is unknown; revoke them, then thaw"


@dataclass(frozen=True)
class Restored:
    """`known_until` is when the newest audit entry of the backup was written; `kept` is where the old store is now."""

    known_until: float | None
    audit_entries: int
    audit_head: str
    kept: Path | None


def restore(url: str, source: Path, *, at: float, by: str) -> Restored:
    """Put a backup in the place of the store, frozen, with an audit entry that says so; the old store is kept.

    At every instant there is a whole store at that place, the old one or the new one.

    Raises:
        StoreBusy: a process holds the store.
        StoreError: the backup is damaged, no store, or of a newer release; nothing has changed.
    """
    path = path_of(url)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        msg = (
            f"the folder of the store {path.parent} is not writable by this user; run it as the daemon's user, or root"
        )
        raise StoreError(msg)
    lock = FileLock(path)
    lock.acquire()
    fresh = path.with_name(f"{path.name}.restoring")
    try:
        restored = _prepare(source, fresh, at, by)
        kept = _kept(path, at) if path.exists() else None
        owned_alike(fresh, path if path.exists() else path.parent)
        fresh.replace(path)
        sync(path.parent)
    finally:
        remove(fresh)
        lock.release()
    return Restored(restored.known_until, restored.audit_entries, restored.audit_head, kept)


def _prepare(source: Path, fresh: Path, at: float, by: str) -> Restored:
    """Copy the backup, check it, bring its schema up to date, freeze it and write down that it was restored."""
    if not source.is_file():
        msg = f"there is no backup at {source}"
        raise StoreError(msg)
    remove(fresh)
    try:
        backup(f"sqlite:///{source.resolve()}", fresh)
        if not inspect(f"sqlite:///{fresh}").sound:
            msg = f"{source} is damaged; take an earlier backup"
            raise StoreError(msg)
        with closing(sqlite3.connect(fresh)) as copy:
            if copy.execute("SELECT count(*) FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone() == (0,):
                msg = f"{source} is not a store of idsync"
                raise StoreError(msg)
    except sqlite3.DatabaseError as error:
        msg = f"{source} cannot be read ({error}); take an earlier backup"
        raise StoreError(msg) from error
    store = SqliteStore(f"sqlite:///{fresh}")
    store.open()
    try:
        newest = next(iter(journal.last(store.reader(), 1)), None)
        until = newest.at if newest is not None else None
        store.write(lambda db: _note(db, at, by, until))
        entries, head = journal.head(store.reader())
    finally:
        store.close()
    return Restored(until, entries, head, None)


def _note(db: Db, at: float, by: str, until: float | None) -> None:
    facts.put(db, facts.FROZEN, {"reason": REASON, "by": by, "at": at}, at)
    journal.append(
        db, at=at, actor=f"cli/{by}", action="store.restored", subject="store", detail={"known_until": until}
    )


def _kept(path: Path, at: float) -> Path:
    """Keep the old store under another name; what SQLite had beside it must not meet the new one."""
    kept = path.with_name(f"{path.name}.before-{int(at)}")
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a damaged store keeps its log, under the new name
    kept.hardlink_to(path)
    for suffix in BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(kept.with_name(kept.name + suffix))
    return kept
