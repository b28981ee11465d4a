from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.idps import Graph

from idsync.sandbox.server import Options, Sandbox

from .org import Org
from .tenant import Tenant


@pytest.fixture(scope="session")
def _stand_in() -> Iterator[Sandbox]:
    with Sandbox(Options(clock="manual")) as sandbox:
        yield sandbox


@pytest.fixture
def org(_stand_in: Sandbox) -> Org:
    """A fresh org on a clock that stands still."""
    return Org(_stand_in)


@pytest.fixture(scope="session")
def _graph() -> Iterator[Graph]:
    with Sandbox(Options()) as sandbox:
        yield Graph(sandbox)


@pytest.fixture
def tenant(_graph: Graph) -> Tenant:
    """An empty tenant."""
    _graph.reset()
    return Tenant(_graph)
