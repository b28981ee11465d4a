from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fixtures import dialect, opened

from .place import Place, Proxy, found

__all__ = ["dialect", "opened"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A LiteLLM proxy speaks one dialect: leave the other out of tests made for both."""
    here = Path(__file__).parent
    items[:] = [item for item in items if here not in item.path.parents or not _is_routero(item)]


def _is_routero(item: pytest.Item) -> bool:
    spec = getattr(item, "callspec", None)
    return spec is not None and spec.params.get("dialect") == "routero"


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    with found() as place:
        yield place


@pytest.fixture
def gateway(place: Place) -> Proxy:
    proxy = Proxy(place)
    proxy.empty()
    return proxy
