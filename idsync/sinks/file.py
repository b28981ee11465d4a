"""A secret in a file: whole or not at all, and readable for nobody else at any time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from idsync.errors import SinkFailed
from idsync.sinks.base import Delivery
from idsync.sinks.places import TRIAL, placed

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
PAUSE = 0.01
"""Seconds between two looks whether a folder is free."""
NEW = ".idsync-new"
"""Ends the name of the file that is written before it takes the place of the old one."""


class FileSink:
    """Writes {path}, through a new file in the same folder that takes its name when it is on disk.

    The folder before the first placeholder has to be there; folders that placeholders name are made, for idsync alone.
    """

    def __init__(self, name: str, path: str, mode: int = 0o600, patience: float = 5.0) -> None:
        """`patience` is how many seconds it waits for others that write in the same folder."""
        self.name = name
        self._patience = patience
        self._path = path
        self._mode = mode

    async def check(self) -> list[str]:
        return await asyncio.to_thread(self.problems)

    async def deliver(self, delivery: Delivery) -> None:
        await asyncio.to_thread(self._write, delivery)

    async def close(self) -> None:
        """Hold nothing open."""

    def problems(self) -> list[str]:
        """Look at the folder without writing."""
        target = Path(placed(self._path, TRIAL, TRIAL))
        try:
            folder = next(place for place in target.parents if place == self._base() or place.exists())
            _refuse_open(folder)
            _refuse_target(target)
        except SinkFailed as error:
            return [str(error)]
        except OSError as error:
            return [_said(target, error)]
        if not os.access(folder, os.W_OK | os.X_OK):
            return [f"{folder} cannot be written by uid {os.geteuid()}; let it belong to this user, mode 0700"]
        return []

    def _base(self) -> Path:
        """Return the folder that the placeholders are in."""
        fixed = self._path.partition("{")[0]
        return Path(fixed[: fixed.rindex("/") + 1])

    def _write(self, delivery: Delivery) -> None:
        target = Path(placed(self._path, delivery.alias, delivery.team))
        try:
            _refuse_open(self._base())
            for folder in reversed([up for up in target.parents if self._base() in up.parents]):
                _make(folder)
            folder = _refuse_open(target.parent)
            _refuse_target(target)
            with _locked(folder, self._patience) as opened:
                _replace(opened, target.name, delivery.secret.get_secret_value().encode(), self._mode)
        except OSError as error:
            raise SinkFailed(_said(target, error)) from None


def _make(folder: Path) -> None:
    """Make a folder for idsync alone, on disk, unless it is there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
        above = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def _refuse_open(folder: Path) -> Path:
    """Return the folder itself, behind symbolic links, where nobody but us and root can put anything in its place.

    Raises:
        SinkFailed: others may write it, or a folder above it.
        OSError: it is not there.
    """
    real = folder.resolve(strict=True)
    for place in (real, *real.parents):
        found = place.stat()
        sticky = place != real and found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.geteuid()):
            msg = f"{place} belongs to uid {found.st_uid}, who could exchange the secret; use a folder of uid {os.geteuid()}"
            raise SinkFailed(msg)
        if found.st_mode & OTHERS_WRITE and not sticky:
            msg = f"others may write {place} (mode {stat.S_IMODE(found.st_mode):04o}); chmod go-w {place}"
            raise SinkFailed(msg)
    return real


def _refuse_target(target: Path) -> None:
    """Raises: SinkFailed: something that is no plain file has the name."""
    with contextlib.suppress(FileNotFoundError):
        kind = target.lstat().st_mode
        if stat.S_ISLNK(kind):
            msg = f"{target} is a symbolic link; remove it, or name the file it leads to"
            raise SinkFailed(msg)
        if not stat.S_ISREG(kind):
            msg = f"{target} is no plain file; remove it, or choose another path"
            raise SinkFailed(msg)


@contextlib.contextmanager
def _locked(folder: Path, patience: float) -> Iterator[int]:
    """Open a folder that nobody else of idsync writes meanwhile.

    Raises:
        SinkFailed: somebody still does after `patience` seconds.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        end = time.monotonic() + patience
        while not _lock(opened):
            if time.monotonic() >= end:
                msg = f"another process is writing in {folder}; try again"
                raise SinkFailed(msg)
            time.sleep(PAUSE)
        yield opened
    finally:
        os.close(opened)


def _lock(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(folder: int, name: str, content: bytes, mode: int) -> None:
    """Put the content under that name: a new file, on disk, then renamed; what a crash has left is written anew."""
    new = f".{name}{NEW}"
    _remove(folder, new)
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        with os.fdopen(file, "wb") as out:
            out.write(content)
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _remove(folder, new)
        raise
    os.fsync(folder)


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _said(target: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{target.parent} is not there; make it for uid {os.geteuid()}, mode 0700"
    return f"{target} cannot be written: {error.strerror}; look at its folder, its owner and the free space"
