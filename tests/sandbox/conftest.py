from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.idps import Graph, Okta

from idsync.sandbox.server import Options, Sandbox

from .client import Client


@pytest.fixture(scope="session")
def _litellm() -> Iterator[Sandbox]:
    with Sandbox(Options(clock="manual")) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def _routero() -> Iterator[Sandbox]:
    with Sandbox(Options(dialect="routero", clock="manual")) as sandbox:
        yield sandbox


@pytest.fixture
def api(_litellm: Sandbox) -> Iterator[Client]:
    """An empty sandbox of the litellm dialect, three replicas, a clock that stands still."""
    yield from _fresh(_litellm)


@pytest.fixture
def routero(_routero: Sandbox) -> Iterator[Client]:
    yield from _fresh(_routero)


@pytest.fixture(params=["litellm", "routero"])
def either(request: pytest.FixtureRequest, _litellm: Sandbox, _routero: Sandbox) -> Iterator[Client]:
    """What has to hold in both dialects."""
    yield from _fresh(_litellm if request.param == "litellm" else _routero)


def _fresh(sandbox: Sandbox) -> Iterator[Client]:
    client = Client(sandbox)
    client.hook("reset")
    client.hook("options", {"licence": False, "mints_keys": False})
    yield client


@pytest.fixture
def okta(_litellm: Sandbox) -> Okta:
    """An empty org; its clock stands still."""
    okta = Okta(_litellm)
    okta.reset()
    return okta


@pytest.fixture
def graph(_litellm: Sandbox) -> Graph:
    """An empty tenant; its clock stands still."""
    graph = Graph(_litellm)
    graph.reset()
    return graph
