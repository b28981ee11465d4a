"""Fixtures that several folders use; their conftest files name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from idsync.clock import Clock
from idsync.engine.desk import EngineSettings
from idsync.sandbox.server import Options, Sandbox
from idsync.snapshot import PolledSource
from support.gateway import Gateway
from support.home import Home
from support.settings import write_settings


class Opener:
    """Opens idsync in this process; called again, it closes that one and opens the same store with other settings."""

    def __init__(self, folder: Path, gateway: Gateway, dialect: str) -> None:
        self._folder = folder
        self._gateway = gateway
        self._dialect = dialect
        self._stack = ExitStack()

    def __call__(
        self,
        *,
        working: bool = True,
        engine: EngineSettings | None = None,
        polled: Mapping[str, PolledSource] | None = None,
        hasty: bool = False,
        clock: Clock | None = None,
        **changed: Any,
    ) -> Home:
        self.close()
        changed["routero"] = {"dialect": self._dialect, **changed.get("routero", {})}
        self.settings = write_settings(self._folder, self._gateway.url, admin_key=self._gateway.admin_key, **changed)
        return self._stack.enter_context(
            Home(self.settings, working=working, engine=engine, polled=polled, hasty=hasty, clock=clock)
        )

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def _sandboxes() -> Iterator[dict[str, Gateway]]:
    """One sandbox of each dialect for the whole run; every test begins with an empty one."""
    with ExitStack() as stack:
        yield {
            dialect: Gateway(stack.enter_context(Sandbox(Options(dialect=dialect))))
            for dialect in ("litellm", "routero")
        }


def _fresh(gateway: Gateway) -> Gateway:
    gateway.hook("reset")
    gateway.hook("options", USUAL)
    return gateway


USUAL = {
    "fence": True,
    "broadcast": "redis",
    "admin_key": "sk-admin-1234",
    "block_supported": True,
    "member_delete_keys": True,
    "list_delay": 0,
    "latency": 0,
    "db_down": False,
    "licence": False,
    "mints_keys": False,
}


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> str:
    """Which dialect the gateway speaks; a test that wants both parametrises it."""
    return str(getattr(request, "param", "litellm"))


@pytest.fixture
def gateway(_sandboxes: dict[str, Gateway], dialect: str) -> Gateway:
    return _fresh(_sandboxes[dialect])


@pytest.fixture
def opened(tmp_path: Path, gateway: Gateway, dialect: str) -> Iterator[Opener]:
    """Open idsync in this process on a configuration with some changes; closed when the test ends."""
    opener = Opener(tmp_path, gateway, dialect)
    yield opener
    opener.close()


both_dialects = pytest.mark.parametrize("dialect", ["litellm", "routero"], indirect=True)
