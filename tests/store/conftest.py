from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from idsync.store.sqlite import SqliteStore


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'idsync.db'}"


@pytest.fixture
def store(url: str) -> Iterator[SqliteStore]:
    """An empty store in a real file."""
    made = SqliteStore(url)
    made.open()
    yield made
    made.close()
