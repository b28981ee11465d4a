"""The store: every page of it, its schema, the disk it lies on, and the SQLite that reads it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from idsync.doctor import shared
from idsync.doctor.check import Check
from idsync.errors import StoreError
from idsync.store.address import is_shared
from idsync.store.sqlite import WAL_LIMIT, inspect, migrations_left, path_of

MIB = 1024 * 1024
LITTLE = 1024 * MIB
"""Free bytes below which somebody should look."""
NOTHING = 2 * WAL_LIMIT
"""Free bytes below which SQLite's log has no room to grow and be cut: pushes will be refused soon."""
FIXED = (3, 51, 3)
"""The first SQLite without the bug by which two writers can lose what was committed (sqlite.org/wal.html#walresetbug)."""
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "fuse.s3fs", "9p", "ceph", "glusterfs"})
"""File systems over which SQLite's locks and its shared memory do not work."""


def store(url: str, password: Callable[[], str] | None = None) -> list[Check]:
    """Check every page of the store, if there is one, and what it lies on; or the database that it is."""
    if is_shared(url):
        return shared.shared(url, password)
    version = sqlite3.sqlite_version_info
    bug = "" if version >= FIXED else f"; before {'.'.join(map(str, FIXED))}, which is safe with one writer, as here"
    checks = [Check("sqlite", True, f"SQLite {sqlite3.sqlite_version}{bug}", {"version": sqlite3.sqlite_version})]
    try:
        path = path_of(url)
        found = inspect(url)
    except StoreError as error:
        return [*checks, Check("store", None, str(error))]
    says = found.lines[1]
    remedy = "" if found.sound else "stop the daemon and restore a backup: docs/runbooks.md"
    return [*checks, Check("store", found.sound, says, {}, remedy), *_schema(url), *_disk(path)]


def _schema(url: str) -> Iterator[Check]:
    try:
        missing, newer = migrations_left(url)
    except StoreError as error:
        yield Check("schema", False, str(error))
        return
    if newer:
        says = f"written by a newer release ({', '.join(newer)})"
        yield Check("schema", False, says, {"newer": newer}, "install that release again, or restore an older backup")
    elif missing:
        says = f"of an older release; the next start upgrades it by {len(missing)} ({', '.join(missing)})"
        yield Check("schema", None, says, {"missing": missing}, "make a backup first: idsync db backup FILE")
    else:
        yield Check("schema", True, "is this release's")


def _disk(path: Path) -> Iterator[Check]:
    folder = path.resolve().parent
    kind = _file_system(folder)
    if kind in REMOTE:
        says = f"{folder} is on {kind}: SQLite's locks do not work there"
        yield Check("disk", False, says, {"file_system": kind}, "move the store to a local disk, and set store.url")
    free = shutil.disk_usage(folder).free
    says, more = f"{free // MIB:,} MiB are free in {folder}", {"free_bytes": free}
    remedy = "make room: a full disk refuses pushes"
    if free < NOTHING:
        yield Check("disk", False, says, more, remedy)
    elif free < max(LITTLE, 2 * path.stat().st_size):
        yield Check("disk", None, says, more, f"{remedy}, and a backup needs as much again")
    else:
        yield Check("disk", True, says, more)


def _file_system(folder: Path) -> str:
    """Return the kind of file system a folder is on (proc(5), mounts); "" where that is not told."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    rows = [line.split() for line in mounts]
    within = [(len(row[1]), row[2]) for row in rows if len(row) > 2 and os.path.commonpath([folder, row[1]]) == row[1]]
    return max(within, default=(0, ""))[1]
