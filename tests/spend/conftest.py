from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.fixtures import Opener, _sandboxes, dialect, gateway, opened
from support.gateway import Gateway

from .place import Place

__all__ = ["_sandboxes", "dialect", "gateway", "opened"]


@pytest.fixture
def founded(opened: Opener, gateway: Gateway) -> Iterator[Callable[..., Place]]:
    """Found the company six hours ago; called with changes of the configuration."""
    made: list[Place] = []

    def found(**changed: Any) -> Place:
        made.append(Place.of(opened, gateway, **changed))
        return made[-1]

    yield found
    for place in made:
        place.close()
