from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fixtures import _sandboxes, dialect, gateway
from support.gateway import Gateway

from replicas.place import Place

__all__ = ["_sandboxes", "dialect", "gateway"]


@pytest.fixture
def place(tmp_path: Path, gateway: Gateway) -> Iterator[Place]:
    made = Place(tmp_path, gateway)
    yield made
    made.close()
