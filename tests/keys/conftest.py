from __future__ import annotations

from pathlib import Path

import pytest
from support.fixtures import Opener, _sandboxes, dialect, gateway, opened
from support.gateway import Gateway

from .ground import Ground

__all__ = ["_sandboxes", "dialect", "gateway", "opened"]


@pytest.fixture
def ground(tmp_path: Path, gateway: Gateway, opened: Opener) -> Ground:
    return Ground(tmp_path, gateway, opened)
