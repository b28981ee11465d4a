"""What this folder expects to fail for now."""

from __future__ import annotations

import pytest
from support import known


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known.mark(items, "differential")
