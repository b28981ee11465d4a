"""A store that is prepared beside the place of another one, to be put there in one step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside a store."""


def owned_alike(fresh: Path, other: Path) -> None:
    """Root may prepare one for the daemon's user, who has to be able to open it."""
    wanted, have = other.stat(), fresh.stat()
    if (wanted.st_uid, wanted.st_gid) != (have.st_uid, have.st_gid):
        shutil.chown(fresh, wanted.st_uid, wanted.st_gid)


def remove(fresh: Path) -> None:
    """Remove what was being prepared, with all that is beside it."""
    for suffix in ("", *BESIDE, ".lock"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Make the new name of a file survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
