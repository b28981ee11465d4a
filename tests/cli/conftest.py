from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from idsync.sandbox.server import Options, Sandbox

from .site import ADMIN_KEY, Site, free_port


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """No daemon, no store yet, and a gateway that is down."""
    return Site(tmp_path, f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Options(admin_key=ADMIN_KEY)) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, sandbox: Sandbox) -> Site:
    """No daemon, no store yet, and a gateway that answers."""
    return Site(tmp_path, sandbox.url)
