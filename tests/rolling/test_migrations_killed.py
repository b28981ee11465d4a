"""A migration on PostgreSQL that is killed (-9) anywhere leaves nothing; the next start does all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from crash.size import FULL
from support.daemon import idsync
from support.settings import write_settings
from support.stores import SERVER, database

from idsync.store import directory
from idsync.store.dialect import schema
from idsync.store.opening import read_only
from idsync.store.postgres_schema import RECORD
from idsync.store.scripts import scripts
from rolling.dying import shape

pytestmark = pytest.mark.skipif(not SERVER, reason="there is no PostgreSQL to make databases on: IDSYNC_TEST_POSTGRES")
NAMES = [script.name for script in scripts()]
EVERY = 1 if FULL else 25
"""Statements from one death to the next."""
ROWS = """
INSERT INTO persons (id, label, generation, ever_had_access, created_at) VALUES ('p', 'ann', 1, 1, 0);
INSERT INTO users (id, source, user_name, user_name_key, active, doc, person_id, observation, observed_at, created_at,
 updated_at, version) VALUES ('u', 'okta', 'ann', 'ann', 1, '{}', 'p', 'present', 1, 1, 1, 1)
"""


def query(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode())


@contextmanager
def made(name: str, last: str | None) -> Iterator[str]:
    """Make a database of an old schema with some rows in it; None: an empty one."""
    query(SERVER, f"DROP DATABASE IF EXISTS {name}")
    query(SERVER, f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
    url = f"{SERVER.rpartition('/')[0]}/{name}"
    if last is not None:
        with psycopg.connect(url) as connection:
            connection.execute(RECORD.encode())
            for script in scripts():
                if script.name <= last:
                    connection.execute(schema(script.text).encode())
                    connection.execute("INSERT INTO idsync_migrations (name) VALUES (%s)", (script.name,))
            connection.execute(ROWS.encode())
    yield url
    query(SERVER, f"DROP DATABASE {name}")


def killed(url: str, first: int, step: int) -> int:
    line = [sys.executable, "-m", "rolling.dying", url, str(first), str(step)]
    tests = str(Path(__file__).parents[1])
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    return shape(database(tmp_path_factory.mktemp("fresh") / "idsync.db"))


@pytest.mark.parametrize("last", [None, *NAMES])
def test_a_death_in_a_migration_leaves_nothing_behind(fresh: list[tuple[object, ...]], last: str | None) -> None:
    """From every schema there was, with people in it, at another statement of each."""
    position = NAMES.index(last) + 1 if last else 0
    with made(f"killed_{os.getpid()}_{position}", last) as url:
        deaths = killed(url, position % 5, EVERY)
        assert deaths > 0
        assert shape(url) == fresh
        if last is not None:
            with read_only(url) as db:
                assert [user.id for user in directory.find_users_any(db, "ann")] == ["u"]


def test_two_that_start_at_once_migrate_once(tmp_path: Path, fresh: list[tuple[object, ...]]) -> None:
    with made(f"twice_{os.getpid()}", NAMES[0]) as url:
        settings = write_settings(tmp_path, "http://127.0.0.1:9", store={"url": url})
        with ThreadPoolExecutor(2) as both:
            done = list(both.map(lambda _: idsync(settings, "db", "migrate", "--json"), range(2)))
        assert [one.code for one in done] == [0, 0], done
        assert sorted(name for one in done for name in one.json["applied"]) == NAMES[1:]
        assert shape(url) == fresh
        assert idsync(settings, "db", "migrate", "--dry-run").code == 0
