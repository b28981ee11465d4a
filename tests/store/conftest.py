from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores import url_of

from idsync.store.db import Store
from idsync.store.opening import store_of


@pytest.fixture
def url(tmp_path: Path) -> str:
    return url_of(tmp_path / "idsync.db")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store in a real file."""
    made = store_of(url)
    made.open()
    yield made
    made.close()
