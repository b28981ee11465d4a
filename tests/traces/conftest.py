from collections.abc import Iterator

import pytest
from support.fixtures import _sandboxes, dialect, gateway, opened

from .collector import Collector

__all__ = ["_sandboxes", "dialect", "gateway", "opened"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as one:
        yield one
