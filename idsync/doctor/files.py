"""Who may read and write what idsync stands on: its configuration, its secrets, its store, its command socket.

what is found                                     how bad
anybody, or a group, may write it                 wrong; a group may write no secret, store or configuration either
anybody may read a secret or the store            a warning
it belongs to somebody who is neither root, nor   a warning: they may change its mode
  the store's owner, nor whoever asks
others may exchange files in its folder           wrong, unless the folder is sticky
the daemon's user may not read it (asked as root) wrong
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from idsync.config import Config, is_of_the_platform, secret_files
from idsync.doctor.check import Check
from idsync.errors import StoreError
from idsync.store.address import is_shared
from idsync.store.sqlite import path_of
from idsync.words import count


@dataclass(frozen=True)
class _Wanted:
    """A file or folder, what it is, and the most that its mode may allow."""

    what: str
    path: Path
    most: int
    secret: bool = False


def files(config: Config, configuration: Path | None) -> list[Check]:
    """Look at the modes and owners of everything that is there; what is missing is told elsewhere."""
    try:
        store = None if is_shared(config.store.url) else path_of(config.store.url)
    except StoreError:
        return []
    wanted = [one for one in _wanted(config, configuration, store) if one.path.exists()]
    owner = store.stat().st_uid if store is not None and store.exists() else os.getuid()
    found = [check for one in wanted for check in _judged(one, owner)]
    return found or [
        Check(
            "files", True, f"{count(len(wanted), 'file or folder is', 'files and folders are')} for their owner alone"
        )
    ]


def _wanted(config: Config, configuration: Path | None, store: Path | None) -> Iterator[_Wanted]:
    if configuration is not None:
        yield _Wanted("the configuration", configuration, 0o644)
    for path, file in secret_files(config):
        if not is_of_the_platform(file, os.environ):
            yield _Wanted(path, Path(file), 0o640, secret=True)
    if store is None:
        return  # a database: nothing of it is a file here
    yield _Wanted("the store's folder", store.parent, 0o755)
    for name in ("", "-wal", "-shm", ".lock"):
        yield _Wanted("the store", store.with_name(f"{store.name}{name}"), 0o600)
    folder = store.with_name(f"{store.name}.ctl")
    yield _Wanted("the command socket's folder", folder, 0o700)
    yield _Wanted("the command socket", folder / "s", 0o600)


def _judged(one: _Wanted, owner: int) -> Iterator[Check]:
    try:
        found, folder = one.path.stat(), one.path.resolve().parent
    except OSError:
        return
    mode = stat.S_IMODE(found.st_mode)
    more = {"path": str(one.path), "mode": f"{mode:04o}", "owner": found.st_uid}
    sticky = one.path.is_dir() and mode & stat.S_ISVTX
    loose = 0 if sticky else mode & ~one.most & 0o777
    if loose:
        who = "anybody" if loose & 0o007 else "a group"
        may = "write" if loose & 0o022 else "read"
        says = f"{one.what}: {who} may {may} {one.path} (mode {mode:04o})"
        ok = False if loose & 0o022 else None
        yield Check("files", ok, says, more, f"chmod {mode & one.most:04o} {one.path}")
    if found.st_uid not in {0, owner, os.getuid()}:
        says = f"{one.what}: {one.path} belongs to {_name(found.st_uid)}, who may change it"
        yield Check("files", None, says, more, f"chown {_name(owner)} {one.path}")
    if one.secret and folder.stat().st_mode & stat.S_IWOTH and not folder.stat().st_mode & stat.S_ISVTX:
        says = f"{one.what}: anybody may put another file in the place of {one.path}"
        yield Check("files", False, says, more, f"chmod o-w {folder}")
    if one.secret and os.getuid() == 0 and owner and not _may_read(found, owner):
        says = f"{one.what}: {_name(owner)}, whose the store is, may not read {one.path}"
        yield Check("files", False, says, more, f"chown {_name(owner)} {one.path}")


def _may_read(found: os.stat_result, user: int) -> bool:
    """Tell whether a user may read a file by its mode (access lists aside)."""
    if found.st_uid == user:
        return bool(found.st_mode & stat.S_IRUSR)
    try:
        known = pwd.getpwuid(user)
    except KeyError:
        return True  # nobody knows its groups: a container's user
    if found.st_gid in os.getgrouplist(known.pw_name, known.pw_gid):
        return bool(found.st_mode & stat.S_IRGRP)
    return bool(found.st_mode & stat.S_IROTH)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
