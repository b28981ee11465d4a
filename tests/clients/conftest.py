from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.endpoint import Client, Served, serving

from idsync.web.auth import ScimSource

from .playing import sessions


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One endpoint with a source of its own for every session, a shared one, and a strict one."""
    sources = [ScimSource(name) for name in (*sessions(), "tolerant")]
    with serving(tmp_path_factory.mktemp("clients"), *sources, ScimSource("strict", strict=True)) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Client:
    """The client of a source that several tests share: they make their own records."""
    return served.clients["tolerant"]


@pytest.fixture
def strict(served: Served) -> Client:
    """The client of a source without tolerance."""
    return served.clients["strict"]
