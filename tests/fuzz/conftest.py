from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.chance import REPLAY
from fuzz.server import STRICT, TOLERANT, Endpoint, Wire


@pytest.fixture(autouse=True)
def _seed(request: pytest.FixtureRequest) -> None:
    """Say with every failure how it is repeated."""
    request.node.add_report_section("setup", "dice", REPLAY)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint with an empty directory for the tests of one file."""
    with Endpoint(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.fixture(scope="module")
def okta(endpoint: Endpoint) -> Wire:
    return endpoint.client(TOLERANT)


@pytest.fixture(scope="module")
def exact(endpoint: Endpoint) -> Wire:
    """The source without tolerance."""
    return endpoint.client(STRICT)
