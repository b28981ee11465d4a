"""A store that may not be written or read is exit 1 with a sentence: asked by a process without privileges."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .site import Site

pytestmark = pytest.mark.needs_file("is somebody's")

NOBODY = 65534
AS_NOBODY = """
import concurrent.futures.thread, difflib, importlib, os, pkgutil, uvloop
import idsync.cli, idsync.store, idsync.app, idsync.status, idsync.web.paths
for room in (idsync.cli, idsync.store):
    for found in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(found.name)
uvloop.new_event_loop().close()
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({nobody}), os.setuid({nobody})
idsync.cli.main.main()
"""
"""Imports first: the interpreter may lie where only root can read."""
MAY_NOT_READ = "is not readable by this user; run this as the user the daemon runs as"
MAY_NOT_WRITE = "is not writable by this user; run this as the user the daemon runs as"


@pytest.fixture
def site() -> Iterator[Site]:
    """A store in a folder of its own, where other users get as far as the store's folder."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        site = Site(folder, "http://127.0.0.1:9")
        (folder / "data").mkdir()
        site.config.write_text(site.config.read_text().replace(str(site.store), str(folder / "data" / "idsync.db")))
        for file in (site.config, folder / "admin-key"):
            file.chmod(0o644)
        assert site.run("token", "new", "okta").returncode == 0
        for file in (folder / "data").glob("idsync.db[-.]*"):  # the lock, and what SQLite keeps beside it
            file.unlink() if file.is_file() else file.rmdir()
        yield site
    finally:
        shutil.rmtree(folder)


@contextmanager
def rights(site: Site, folder: int, file: int) -> Iterator[None]:
    data = site.folder / "data"
    (data / "idsync.db").chmod(file)
    data.chmod(folder)
    try:
        yield
    finally:
        data.chmod(0o755)


def unprivileged(site: Site, *words: str) -> tuple[int, str, str]:
    line = [sys.executable, "-c", AS_NOBODY.format(nobody=NOBODY), "-c", str(site.config), *words]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("IDSYNC_")}
    done = subprocess.run(line, cwd=site.folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("folder", "file", "words", "said"),
    [
        (0o777, 0o444, ("token", "new", "okta"), MAY_NOT_WRITE),
        (0o777, 0o444, ("serve",), MAY_NOT_WRITE),
        (0o555, 0o666, ("serve",), MAY_NOT_WRITE),
        (0o555, 0o444, ("status",), "SQLite keeps a file beside it: run this as the user the daemon runs as"),
        (0o777, 0o000, ("status",), MAY_NOT_READ),
        (0o000, 0o666, ("status",), "Permission denied; run this as the user the daemon runs as"),
        (0o000, 0o666, ("serve",), MAY_NOT_WRITE),
    ],
    ids=lambda value: f"{value:o}" if isinstance(value, int) else None,
)
def test_a_store_of_somebody_else_is_exit_1_with_a_sentence(
    site: Site, folder: int, file: int, words: tuple[str, ...], said: str
) -> None:
    before = (site.folder / "data" / "idsync.db").read_bytes()
    with rights(site, folder, file):
        code, out, err = unprivileged(site, *words)
    assert (code, out, len(err.splitlines())) == (1, "", 1), err
    assert err.startswith("idsync: ")
    assert err.endswith(f"{said}\n")
    assert (site.folder / "data" / "idsync.db").read_bytes() == before


def test_a_store_that_is_only_readable_can_be_looked_at(site: Site) -> None:
    with rights(site, 0o777, 0o444):
        code, out, err = unprivileged(site, "audit", "verify")
    assert (code, out.startswith("1 entry, chain whole"), err) == (0, True, "")
