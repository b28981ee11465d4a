"""Bring a database up to date in a process that dies (-9) before its n-th statement: `python -m rolling.dying URL N`."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
from support.adding import statements

from idsync.store.address import Address
from idsync.store.postgres_connection import KeptConnection as _Connection
from idsync.store.postgres_schema import GUARD, migrate

DONE, DIED = 0, -signal.SIGKILL


class _Dying(_Connection):
    """A connection whose process ends before the statement of a number; what comes as one text is sent one by one."""

    _left: Iterator[int] = itertools.repeat(1)

    def execute(self, query: Any, *args: Any, **more: Any) -> psycopg.Cursor[dict[str, Any]]:
        parts = [query]
        if isinstance(query, bytes) and b";" in query and query.decode() != GUARD:
            parts = [part.encode() for part in statements(query.decode())]
        for part in parts:
            if next(self._left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = super().execute(part, *args, **more)
        return result


def dies(url: str, number: int) -> bool:
    """Migrate in a child that dies before that statement; tell whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            _Dying._left = iter(range(number, -1, -1))
            migrate(_Dying.connect(address=Address(url)))
            os._exit(DONE)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (DONE, DIED), code
    return code == DIED


def shape(url: str) -> list[tuple[Any, ...]]:
    """Return every column, index, constraint and trigger of a database, and which migrations it says it has."""
    asked = (
        "SELECT table_name, ordinal_position, column_name, data_type, collation_name, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
        "SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    )
    with psycopg.connect(url) as connection:
        found = [row for query in asked for row in connection.execute(query.encode()).fetchall()]
        if connection.execute(b"SELECT to_regclass('idsync_migrations') IS NOT NULL").fetchone() == (True,):
            found += connection.execute(b"SELECT name FROM idsync_migrations").fetchall()
    return sorted(found, key=str)


def main(url: str, first: int, step: int) -> None:
    """Let it die at every `step`-th statement, look that nothing has changed, and then let it live.

    Prints how many deaths there were.
    """
    before, deaths = shape(url), 0
    for number in itertools.count(first, step):
        if not dies(url, number):
            break
        deaths += 1
        assert shape(url) == before, f"something is left of a death before statement {number}"
    print(deaths)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
