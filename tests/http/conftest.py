from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the `vectors` beside this folder

from support.endpoint import Client, Served, serving

from idsync.web.auth import ScimSource


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One endpoint with two tolerant sources and a strict one, shared by the tests: they make their own records."""
    sources = (ScimSource("okta"), ScimSource("entra"), ScimSource("exact", strict=True))
    with serving(tmp_path_factory.mktemp("scim"), *sources) as running:
        yield running


@pytest.fixture
def okta(served: Served) -> Client:
    return served.clients["okta"]


@pytest.fixture
def entra(served: Served) -> Client:
    return served.clients["entra"]


@pytest.fixture
def exact(served: Served) -> Client:
    """The source without tolerance."""
    return served.clients["exact"]
