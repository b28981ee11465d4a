"""A PostgreSQL of a run's own, from tools/with_postgres.py."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOOL = Path(__file__).parents[1] / "tools" / "with_postgres.py"


@contextlib.contextmanager
def postgres() -> Iterator[Any]:
    """Run a server; it ends with the block."""
    found = importlib.util.spec_from_file_location("with_postgres", TOOL)
    assert found is not None
    assert found.loader is not None
    tool = importlib.util.module_from_spec(found)
    found.loader.exec_module(tool)
    with tempfile.TemporaryDirectory(prefix="idsync-bench-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = Path(folder) / "server"
        made.mkdir()
        server = tool.Server(made)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def database(server: Any, name: str) -> str:
    """Make an empty database and return its address."""
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server.url.rpartition('/')[0]}/{name}"
