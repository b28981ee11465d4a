from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from polling.test_polls import crew, okta, start
from support.fixtures import Opener, _sandboxes, dialect, gateway, opened
from support.gateway import Gateway, Holder
from support.polled import Polled

from idsync.model import Observation
from idsync.store import ledger
from page.served import Served

__all__ = ["_sandboxes", "dialect", "gateway", "okta", "opened"]


@dataclass
class Scene:
    """Three people polling found gone are held, their keys still work, and the page is served."""

    served: Served
    gateway: Gateway
    source: Polled
    leo: Holder
    hold: ledger.Hold

    @property
    def path(self) -> str:
        return f"/holds/{self.hold.id}"

    def is_open(self) -> bool:
        return [hold.id for hold in self.served.home.holds()] == [self.hold.id]


@pytest.fixture
def scene(gateway: Gateway, opened: Opener, okta: Polled) -> Iterator[Scene]:
    home = start(opened, okta)
    leo = crew(gateway, home)["leo"]
    for login in ("leo", "bob", "cy"):
        okta.become(login, Observation.INACTIVE)
    home.poll("poll")
    okta.changed.clear()
    okta.told.clear()
    [hold] = ledger.holds(home.db)
    with Served(home) as served:
        yield Scene(served, gateway, okta, leo, hold)
