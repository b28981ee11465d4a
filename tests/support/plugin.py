"""On which store the tests run: a file each, or with IDSYNC_TEST_STORE=postgresql a database each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stores import SHARED, drop_databases


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is about the store of one file, where every store is a database."""
    for item in items if SHARED else ():
        if (mark := item.get_closest_marker("needs_file")) is not None:
            item.add_marker(pytest.mark.skip(reason=f"needs a file: {mark.args[0]}"))


def pytest_collection_finish() -> None:
    """Hide what has chosen the store from commands that tests run in this process: it is no key of theirs."""
    for name in ("IDSYNC_TEST_STORE", "IDSYNC_TEST_POSTGRES"):
        os.environ.pop(name, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Drop a test's databases when all else of it has been taken down."""
    folder = item.funcargs.get("tmp_path") if isinstance(item, pytest.Function) else None
    yield
    if SHARED and isinstance(folder, Path):
        drop_databases(folder)
