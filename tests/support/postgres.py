"""A PostgreSQL of a test's own, which it may kill and start again."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

TOOL = Path(__file__).parents[2] / "tools" / "with_postgres.py"


def _tool() -> ModuleType:
    found = importlib.util.spec_from_file_location("with_postgres", TOOL)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@contextmanager
def postgres(*, in_memory: bool = False) -> Iterator[Any]:
    """Run a server of its own; `kill` and `start` may follow each other, `url` is its address.

    It runs as another user where this is root, whom pytest's own folders keep out.
    """
    with _tool().running(in_memory=in_memory) as server:
        yield server
